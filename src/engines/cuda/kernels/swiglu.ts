import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer, type RowOutput, type RowShape, rowVariant, threadsOfRow } from './rows.ts'

export interface SwigluArguments extends RowOutput {
  readonly rows: number
  /** bf16 [rows, 2 * rowSize]: gate, then up */
  readonly gateUp: DevicePointer
}

export function swigluVariant(options: RowShape): KernelVariant {
  return rowVariant('swiglu', options)
}

/** output = silu(gate) * up, in the form the next product takes. @see arXiv:2002.05202 */
export async function loadSwiglu(
  loader: KernelLoader,
  options: RowShape,
): Promise<(stream: GpuStream, args: SwigluArguments) => void> {
  const kernel = (await loader.load(swigluVariant(options))).kernel('swiglu')
  const values = new KernelArguments(['pointer', 'pointer', 'pointer'])
  const block = [threadsOfRow(options.rowSize)] as const
  return (stream, { rows, gateUp, output, scale = noPointer }) =>
    kernel.launch(stream, { grid: [rows], block }, values.set(gateUp, output, scale))
}
