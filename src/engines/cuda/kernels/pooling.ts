import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer, rowVariant, threadsOfRow } from './rows.ts'

/** In the order of the codes in pooling.cu. */
const poolings = ['last-token', 'cls', 'mean'] as const

export interface PoolingOptions {
  readonly rowSize: number
  readonly pooling: (typeof poolings)[number]
  /** The model's last RMSNorm, left to the pooled token alone. Not with 'mean'. */
  readonly rmsNorm?: { readonly epsilon: number }
}

export interface PoolingArguments {
  readonly sequences: number
  /** bf16 [tokens, rowSize] */
  readonly hidden: DevicePointer
  /** i32 [sequences + 1] */
  readonly cumulativeLengths: DevicePointer
  /** bf16 [rowSize] */
  readonly gamma?: DevicePointer
  /** f32 [sequences, dimensions], written */
  readonly output: DevicePointer
  readonly dimensions: number
  /** To length 1, after the cut. */
  readonly normalize: boolean
}

export function poolingVariant({ rowSize, pooling, rmsNorm }: PoolingOptions): KernelVariant {
  const { file, defines, minArchitecture } = rowVariant('pooling', { rowSize, output: 'bf16' })
  const { OUTPUT: _, ...shape } = defines
  return {
    file,
    defines: {
      ...shape,
      POOLING: poolings.indexOf(pooling),
      RMS_NORM: Number(rmsNorm !== undefined),
      GROUPS: groupsOf({ rowSize, pooling }),
    },
    minArchitecture,
  }
}

/** How many tokens of a mean are read at once: as many as a block of 1024 threads and 40 KiB have room for. */
function groupsOf({ rowSize, pooling }: Pick<PoolingOptions, 'rowSize' | 'pooling'>): number {
  if (pooling !== 'mean') return 1
  const threads = threadsOfRow(rowSize)
  const rowBytes = Math.ceil(rowSize / (threads * 8)) * threads * 8 * 4
  return Math.max(1, Math.min(16, Math.floor(1024 / threads), Math.floor((40 << 10) / rowBytes)))
}

/** One vector a sequence. */
export async function loadPooling(
  loader: KernelLoader,
  options: PoolingOptions,
): Promise<(stream: GpuStream, args: PoolingArguments) => void> {
  const kernel = (await loader.load(poolingVariant(options))).kernel('pooling')
  const values = new KernelArguments(['pointer', 'pointer', 'pointer', 'pointer', 'f32', 'i32', 'i32'])
  const block = [threadsOfRow(options.rowSize), groupsOf(options)] as const
  const epsilon = options.rmsNorm?.epsilon ?? 0
  return (stream, args) => {
    const { sequences, hidden, cumulativeLengths, gamma = noPointer, output, dimensions, normalize } = args
    kernel.launch(
      stream,
      { grid: [sequences], block },
      values.set(hidden, cumulativeLengths, gamma, output, epsilon, dimensions, Number(normalize)),
    )
  }
}
