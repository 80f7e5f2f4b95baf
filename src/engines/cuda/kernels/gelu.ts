import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer, type RowOutput, type RowShape, rowVariant, threadsOfRow } from './rows.ts'

export interface GeluOptions extends RowShape {
  /** By tanh, as some models were trained ('gelu_new', 'gelu_pytorch_tanh'), instead of the error function. */
  readonly approximate: boolean
}

export interface GeluArguments extends RowOutput {
  readonly rows: number
  /** bf16 [rows, rowSize] */
  readonly input: DevicePointer
  /** bf16 [rowSize] */
  readonly bias: DevicePointer
}

export function geluVariant(options: GeluOptions): KernelVariant {
  return rowVariant('gelu', options, { APPROXIMATE: Number(options.approximate) })
}

/** output = gelu(input + bias), in the form the next product takes. @see arXiv:1606.08415 */
export async function loadGelu(
  loader: KernelLoader,
  options: GeluOptions,
): Promise<(stream: GpuStream, args: GeluArguments) => void> {
  const kernel = (await loader.load(geluVariant(options))).kernel('gelu')
  const values = new KernelArguments(['pointer', 'pointer', 'pointer', 'pointer'])
  const block = [threadsOfRow(options.rowSize)] as const
  return (stream, { rows, input, bias, output, scale = noPointer }) =>
    kernel.launch(stream, { grid: [rows], block }, values.set(input, bias, output, scale))
}
