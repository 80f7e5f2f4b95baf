/** How fast a GPU multiplies and copies, measured: a large product by cuBLASLt and a copy within its memory. */
import { EmbedError } from '../../errors.ts'
import type { Cublaslt } from '../ffi/cublaslt.ts'
import { DeviceBuffer } from '../gpu/device-buffer.ts'
import type { GpuContext } from '../gpu/context.ts'
import { GpuEvent } from '../gpu/event.ts'
import { Matmul, MatmulLibrary, type MatmulPrecision } from '../gpu/matmul.ts'
import { searchAlgorithm } from '../gpu/matmul-search.ts'
import { PinnedBuffer } from '../gpu/pinned-buffer.ts'
import { GpuStream } from '../gpu/stream.ts'

export interface GpuPeak {
  /** By precision; one that this GPU cannot multiply at is not there. */
  readonly flopsByPrecision: Readonly<Partial<Record<MatmulPrecision, number>>>
  /** Read and written. */
  readonly memoryBytesPerSecond: number
}

export interface GpuPeakOptions {
  /** Rows, columns and inner size of the product. Default 8192: 1.1 TFLOP, one to a few milliseconds. */
  readonly size?: number
  /** Default 1 GiB, far beyond any L2 cache. */
  readonly copyBytes?: number
}

const precisions = ['bf16', 'fp8'] as const
const copyRounds = 5

/** Takes 1 to 3 seconds and, by default, 2.3 GiB of the GPU's memory meanwhile.
 * @throws {EmbedError} GPU_OUT_OF_MEMORY, CUDA_STATUS, CUBLAS_STATUS */
export async function measureGpuPeak(
  gpu: GpuContext,
  cublaslt: Cublaslt,
  { size = 8192, copyBytes = 2 ** 30 }: GpuPeakOptions = {},
): Promise<GpuPeak> {
  using stream = new GpuStream(gpu, 'peak')
  using library = new MatmulLibrary(gpu, cublaslt)
  const flopsByPrecision: Partial<Record<MatmulPrecision, number>> = {}
  for (const precision of precisions) {
    try {
      flopsByPrecision[precision] = await measureProduct(library, stream, precision, size)
    } catch (error) {
      // FP8 needs sm_89.
      if (!(error instanceof EmbedError && error.code === 'MATMUL_UNSUPPORTED')) throw error
    }
  }
  return { flopsByPrecision, memoryBytesPerSecond: await measureCopy(gpu, stream, copyBytes) }
}

async function measureProduct(
  library: MatmulLibrary,
  stream: GpuStream,
  precision: MatmulPrecision,
  size: number,
): Promise<number> {
  const { gpu } = library
  const bytes = size * size * (precision === 'bf16' ? 2 : 1)
  using a = new DeviceBuffer(gpu, 'peak a', bytes)
  using b = new DeviceBuffer(gpu, 'peak b', bytes)
  using d = new DeviceBuffer(gpu, 'peak d', size * size * 2)
  using scale = new DeviceBuffer(gpu, 'peak scale', 4)
  using matmul = new Matmul(library, { precision, rows: size, columns: size, inner: size })
  for (const buffer of [a, b]) await fillRandom(gpu, stream, buffer)
  await upload(gpu, stream, scale, new Uint8Array(Float32Array.of(1).buffer))
  const scales = precision === 'bf16' ? {} : { aScale: scale.handle, bScale: scale.handle }
  const operands = { a: a.handle, b: b.handle, d: d.handle, ...scales }
  const { medianUs } = await searchAlgorithm(matmul, { stream, operands })
  return (2 * size ** 3) / (medianUs / 1e6)
}

/** Power counts: products of zeros are up to 20 % faster. Every byte but those that make a NaN of E4M3 or bf16. */
async function fillRandom(gpu: GpuContext, stream: GpuStream, buffer: DeviceBuffer): Promise<void> {
  const pattern = new Uint8Array(Math.min(buffer.bytes, 1 << 20))
  let state = 1
  for (let i = 0; i < pattern.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    // The sign, and exponents of values below 2 in both formats.
    pattern[i] = (state >>> 24) & 0xbf
  }
  await upload(gpu, stream, buffer, pattern)
}

/** The bytes over and over, until the buffer is full. */
async function upload(
  gpu: GpuContext,
  stream: GpuStream,
  buffer: DeviceBuffer,
  bytes: Uint8Array,
): Promise<void> {
  using host = new PinnedBuffer(gpu, 'peak upload', bytes.length)
  host.uint8().set(bytes)
  for (let toByte = 0; toByte < buffer.bytes; toByte += bytes.length) {
    stream.copy(buffer, host, { toByte, bytes: Math.min(bytes.length, buffer.bytes - toByte) })
  }
  await stream.idle()
}

async function measureCopy(gpu: GpuContext, stream: GpuStream, bytes: number): Promise<number> {
  using from = new DeviceBuffer(gpu, 'peak copy from', bytes)
  using to = new DeviceBuffer(gpu, 'peak copy to', bytes)
  using start = new GpuEvent(gpu, { timing: true })
  using end = new GpuEvent(gpu, { timing: true })
  let bestMs = Infinity
  for (let round = 0; round < copyRounds; round++) {
    start.record(stream)
    stream.copy(to, from)
    end.record(stream)
    await end.done()
    bestMs = Math.min(bestMs, end.elapsedMsSince(start))
  }
  return (2 * bytes) / (bestMs / 1000)
}
