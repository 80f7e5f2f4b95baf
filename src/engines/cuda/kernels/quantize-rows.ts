import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { MatmulPrecision } from '../../../hardware/gpu/matmul.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer, type RowOutput, type RowShape, rowVariant, threadsOfRow } from './rows.ts'

/** In the order of the codes in quantize_rows.cu. */
export const quantizeSources = ['bf16', 'fp16', 'fp32'] as const
export type QuantizeSource = (typeof quantizeSources)[number]

export interface QuantizeRowsOptions extends RowShape {
  readonly source: QuantizeSource
}

export interface QuantizeRowsArguments extends RowOutput {
  readonly rows: number
  /** [rows, rowSize] of the source's type */
  readonly input: DevicePointer
}

export interface FindScaleArguments {
  readonly rows: number
  /** [rows, rowSize] of the source's type */
  readonly input: DevicePointer
  /** u32 [1], scratch */
  readonly amax: DevicePointer
  /** f32 [1], written */
  readonly scale: DevicePointer
}

export interface QuantizeRows {
  /** output = input, in the form that `output` says. */
  readonly quantize: (stream: GpuStream, args: QuantizeRowsArguments) => void
  /** scale = the largest size of any value / 448: what 'fp8' needs before it quantises weights. */
  readonly findScale: (stream: GpuStream, args: FindScaleArguments) => void
}

export function quantizeRowsVariant(options: QuantizeRowsOptions): KernelVariant {
  return rowVariant('quantize_rows', options, { SOURCE: quantizeSources.indexOf(options.source) })
}

/** Of what attention made, for the product that reads it: with a scale that is given, attention writes that itself; a scale a row
 * is known when all heads are done. @returns undefined where nothing is left to do */
export async function loadAttendedQuantizer(
  loader: KernelLoader,
  output: MatmulPrecision,
  attentionSize: number,
): Promise<QuantizeRows | undefined> {
  if (output !== 'fp8-rowwise') return undefined
  return loadQuantizeRows(loader, { rowSize: attentionSize, output, source: 'bf16' })
}

export async function loadQuantizeRows(
  loader: KernelLoader,
  options: QuantizeRowsOptions,
): Promise<QuantizeRows> {
  const module = await loader.load(quantizeRowsVariant(options))
  const [quantize, findAmax] = [module.kernel('quantize_rows'), module.kernel('find_amax')]
  const scaleOfAmax = module.kernel('scale_of_amax')
  const three = new KernelArguments(['pointer', 'pointer', 'pointer'])
  const two = new KernelArguments(['pointer', 'pointer'])
  const block = [threadsOfRow(options.rowSize)] as const
  return {
    quantize: (stream, { rows, input, output, scale = noPointer }) =>
      quantize.launch(stream, { grid: [rows], block }, three.set(input, output, scale)),
    findScale: (stream, { rows, input, amax, scale }) => {
      stream.gpu.makeCurrent().cuMemsetD8Async(amax, 0, 4, stream.handle)
      findAmax.launch(stream, { grid: [rows], block }, two.set(input, amax))
      scaleOfAmax.launch(stream, { grid: [1], block: [1] }, two.set(amax, scale))
    },
  }
}
