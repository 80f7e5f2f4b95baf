/** What calibration reads: the largest magnitude that goes into each linear layer. */
import type { ArithmeticType } from './arithmetic.ts'
import type { GraphBuilder } from './graph-builder.ts'
import { dataTypes } from './proto.ts'

export const amaxOutput = 'activation_amax'

/** Adds activation_amax f32 [layers], over the whole batch, padding included: run one sequence at a time.
 * @param inputs the value that each layer reads */
export function addAmaxOutput(
  graph: GraphBuilder,
  inputs: ReadonlyMap<string, string>,
  type: ArithmeticType,
): void {
  const axis = graph.integers('axis.0', [0])
  const largest = [...inputs].map(([layer, input]) => {
    const magnitudes = graph.node('Abs', [input], `${layer}.magnitudes`)
    const most = graph.node('ReduceMax', [magnitudes], `${layer}.amax`, { keepdims: { int: 0 } })
    return graph.node('Unsqueeze', [most, axis], `${layer}.amax.row`)
  })
  const joined = type === 'float' ? amaxOutput : 'amax.joined'
  graph.node('Concat', largest, joined, { axis: { int: 0 } })
  if (type !== 'float') graph.node('Cast', [joined], amaxOutput, { to: { int: dataTypes.float } })
  graph.output(amaxOutput, 'float', [inputs.size])
}
