import { EmbedError } from '../../../errors.ts'
import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { MatmulPrecision } from '../../../hardware/gpu/matmul.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer } from './rows.ts'

/** In the order of the codes in few_rows_product.cu. */
const outputs = ['written', 'added', 'swiglu'] as const

export interface FewRowsOptions {
  /** Of the output; with 'swiglu' the weights have twice as many, gates first. A multiple of 16. */
  readonly columns: number
  /** A multiple of 64. */
  readonly inner: number
  /** A scale for each matrix, or one a row. */
  readonly precision: Exclude<MatmulPrecision, 'bf16'>
  /** bf16 written, or added to what is there; or SwiGLU as E4M3, which needs a scale that is given. */
  readonly output: (typeof outputs)[number]
  /** Of a block, which share the inner size. Default 8. */
  readonly warps?: number
}

export interface FewRowsArguments {
  /** E4M3 [fewRows, inner] */
  readonly input: DevicePointer
  /** f32 [1], or [fewRows] where row-wise */
  readonly inputScale: DevicePointer
  /** E4M3 [columns or 2 * columns, inner] */
  readonly weights: DevicePointer
  /** f32 [1], or one a row of the weights */
  readonly weightScale: DevicePointer
  /** bf16 or E4M3 [fewRows, columns] */
  readonly output: DevicePointer
  /** f32 [1]; with 'swiglu' */
  readonly outputScale?: DevicePointer
}

/** Rows of a product that are taken, all of them always: two tiles of the tensor cores. */
export const fewRows = 16
const defaultWarps = 8

export function takesFewRows({ columns, inner }: Pick<FewRowsOptions, 'columns' | 'inner'>): boolean {
  return columns % 16 === 0 && inner % 64 === 0
}

/** @throws {EmbedError} INTERNAL for sizes it has no pieces for */
export function fewRowsProductVariant(options: FewRowsOptions): KernelVariant {
  const { columns, inner, precision, output, warps = defaultWarps } = options
  if (!takesFewRows(options) || (output === 'swiglu' && precision === 'fp8-rowwise')) {
    const reason = `no ${precision} product of few rows to ${columns} columns from ${inner} values, ${output}`
    throw new EmbedError('INTERNAL', { reason })
  }
  return {
    file: 'few_rows_product',
    defines: {
      ROWS: fewRows,
      COLUMNS: columns,
      INNER: inner,
      WARPS: warps,
      ROWWISE: Number(precision === 'fp8-rowwise'),
      OUTPUT: outputs.indexOf(output),
    },
    minArchitecture: 89,
  }
}

/** A product bound by the reading of its weights. */
export async function loadFewRowsProduct(
  loader: KernelLoader,
  options: FewRowsOptions,
): Promise<(stream: GpuStream, args: FewRowsArguments) => void> {
  const kernel = (await loader.load(fewRowsProductVariant(options))).kernel('few_rows_product')
  const values = new KernelArguments(['pointer', 'pointer', 'pointer', 'pointer', 'pointer', 'pointer'])
  const shape = { grid: [options.columns / 16], block: [(options.warps ?? defaultWarps) * 32] } as const
  return (stream, { input, inputScale, weights, weightScale, output, outputScale = noPointer }) =>
    kernel.launch(stream, shape, values.set(input, weights, output, inputScale, weightScale, outputScale))
}
