import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer, type RowOutput, type RowShape, rowVariant, threadsOfRow } from './rows.ts'

export interface ResidualLayernormOptions extends RowShape {
  readonly epsilon: number
}

export interface ResidualLayernormArguments extends Partial<RowOutput> {
  readonly rows: number
  /** bf16 [rows, rowSize], replaced by what comes out */
  readonly hidden: DevicePointer
  /** bf16 [rows, rowSize] */
  readonly delta: DevicePointer
  /** bf16 [rowSize] */
  readonly gamma: DevicePointer
  /** bf16 [rowSize] */
  readonly beta: DevicePointer
}

export function residualLayernormVariant(options: ResidualLayernormOptions): KernelVariant {
  return rowVariant('residual_layernorm', options)
}

/** hidden = LayerNorm(hidden + delta), and for FP8 the same quantised in `output`. @see arXiv:1607.06450 */
export async function loadResidualLayernorm(
  loader: KernelLoader,
  options: ResidualLayernormOptions,
): Promise<(stream: GpuStream, args: ResidualLayernormArguments) => void> {
  const kernel = (await loader.load(residualLayernormVariant(options))).kernel('residual_layernorm')
  const values = new KernelArguments([
    'pointer',
    'pointer',
    'pointer',
    'pointer',
    'pointer',
    'pointer',
    'f32',
  ])
  const block = [threadsOfRow(options.rowSize)] as const
  return (stream, { rows, hidden, delta, gamma, beta, output = noPointer, scale = noPointer }) =>
    kernel.launch(
      stream,
      { grid: [rows], block },
      values.set(hidden, delta, gamma, beta, output, scale, options.epsilon),
    )
}
