import { EmbedError } from '../../../errors.ts'
import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer } from './rows.ts'

/** Bytes of a row, multiples of 16. */
export interface GatherRowsOptions {
  readonly firstBytes: number
  /** Default 0: there is no second array. */
  readonly secondBytes?: number
}

export interface GatherRowsArguments {
  readonly count: number
  /** i32 [count] */
  readonly rows: DevicePointer
  /** [any, firstBytes] */
  readonly first: DevicePointer
  /** [count, firstBytes], written; apart from `first` */
  readonly firstTo: DevicePointer
  /** [any, secondBytes] */
  readonly second?: DevicePointer
  /** [count, secondBytes], written; apart from `second` */
  readonly secondTo?: DevicePointer
}

const threads = 128

/** @throws {EmbedError} INTERNAL for rows that are no multiples of 16 bytes */
export function gatherRowsVariant({ firstBytes, secondBytes = 0 }: GatherRowsOptions): KernelVariant {
  if (firstBytes % 16 !== 0 || secondBytes % 16 !== 0) {
    const reason = `rows of ${firstBytes} and ${secondBytes} bytes are no multiples of 16`
    throw new EmbedError('INTERNAL', { reason })
  }
  const defines = { FIRST_BYTES: firstBytes, SECOND_BYTES: secondBytes, THREADS: threads }
  return { file: 'gather_rows', defines, minArchitecture: 80 }
}

/** Rows of one array or two by their numbers. */
export async function loadGatherRows(
  loader: KernelLoader,
  options: GatherRowsOptions,
): Promise<(stream: GpuStream, args: GatherRowsArguments) => void> {
  const kernel = (await loader.load(gatherRowsVariant(options))).kernel('gather_rows')
  const values = new KernelArguments(['pointer', 'pointer', 'pointer', 'pointer', 'pointer'])
  const arrays = options.secondBytes === undefined ? 1 : 2
  return (stream, { count, rows, first, firstTo, second = noPointer, secondTo = noPointer }) =>
    kernel.launch(
      stream,
      { grid: [count, arrays], block: [threads] },
      values.set(first, firstTo, second, secondTo, rows),
    )
}
