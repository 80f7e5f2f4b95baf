import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer, type RowOutput, type RowShape, rowVariant, threadsOfRow } from './rows.ts'

export interface ResidualRmsnormOptions extends RowShape {
  readonly epsilon: number
  /** Whether something is added to the residual first. */
  readonly withDelta: boolean
}

export interface ResidualRmsnormArguments extends RowOutput {
  readonly rows: number
  /** bf16 [rows, rowSize]; with delta it is written too */
  readonly residual: DevicePointer
  /** bf16 [rows, rowSize] */
  readonly delta?: DevicePointer
  /** bf16 [rowSize] */
  readonly gamma: DevicePointer
}

export function residualRmsnormVariant(options: ResidualRmsnormOptions): KernelVariant {
  return rowVariant('residual_rmsnorm', options, { WITH_DELTA: Number(options.withDelta) })
}

/** residual += delta; output = RMSNorm(residual), in the form the next product takes. @see arXiv:1910.07467 */
export async function loadResidualRmsnorm(
  loader: KernelLoader,
  options: ResidualRmsnormOptions,
): Promise<(stream: GpuStream, args: ResidualRmsnormArguments) => void> {
  const kernel = (await loader.load(residualRmsnormVariant(options))).kernel('residual_rmsnorm')
  const values = new KernelArguments(['pointer', 'pointer', 'pointer', 'pointer', 'pointer', 'f32'])
  const block = [threadsOfRow(options.rowSize)] as const
  return (stream, { rows, residual, delta = noPointer, gamma, output, scale = noPointer }) =>
    kernel.launch(
      stream,
      { grid: [rows], block },
      values.set(residual, delta, gamma, output, scale, options.epsilon),
    )
}
