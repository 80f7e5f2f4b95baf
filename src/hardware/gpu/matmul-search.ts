/** The fastest algorithm for a shape on this GPU: cuBLASLt's candidates timed on the real shape, the winner kept on disk.
 * Its own first choice is 6 to 15 % slower on an H100 (FP8, the products of Qwen3-Embedding-4B). */
import { EmbedError } from '../../errors.ts'
import type { DiskCache } from './disk-cache.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { GpuEvent } from './event.ts'
import type { Matmul, MatmulAlgorithm, MatmulOperands } from './matmul.ts'
import type { GpuStream } from './stream.ts'

export interface MatmulSearchOptions {
  readonly stream: GpuStream
  /** Random values, not zeros: those are up to 20 % faster, since power counts. D is written over. */
  readonly operands: MatmulOperands
  readonly cache?: DiskCache
  /** Timings of a candidate; the median counts. Default 5. */
  readonly rounds?: number
}

export interface FoundAlgorithm extends MatmulAlgorithm {
  /** Median of a product whose operands were not in the L2 cache. */
  readonly medianUs: number
  /** Of cuBLASLt's first choice. */
  readonly firstChoiceUs: number
  readonly candidates: number
}

/** Split-K and stream-K, which few rows want, are often not among the first. */
const candidateCount = 64
/** One that took so many times as long as the best is not timed again. */
const hopelessRatio = 1.5

/** @throws {EmbedError} MATMUL_UNSUPPORTED, GPU_OUT_OF_MEMORY, CUDA_STATUS */
export async function searchAlgorithm(matmul: Matmul, options: MatmulSearchOptions): Promise<FoundAlgorithm> {
  const key = cacheKeyOf(matmul)
  const known = parse(await options.cache?.read(key))
  if (known !== undefined && matmul.accepts(known)) return known
  const found = await timeCandidates(matmul, options)
  const { bytes, ...rest } = found
  const content = JSON.stringify({ ...rest, algorithm: Buffer.from(bytes).toString('base64') })
  await options.cache?.write(key, Buffer.from(content))
  return found
}

/** What decides which algorithm is fastest. */
function cacheKeyOf({ shape, library }: Matmul): unknown {
  const { name, computeCapability, multiprocessorCount } = library.gpu.device
  const { precision, rows, columns, inner, bias = false, accumulate = false } = shape
  return {
    cublaslt: library.version,
    workspaceBytes: library.workspace.bytes,
    candidateCount,
    device: [name, computeCapability.major, computeCapability.minor, multiprocessorCount],
    shape: [precision, rows, columns, inner, bias, accumulate],
  }
}

async function timeCandidates(
  matmul: Matmul,
  { stream, operands, rounds = 5 }: MatmulSearchOptions,
): Promise<FoundAlgorithm> {
  const { gpu } = matmul.library
  const candidates = matmul.heuristics(operands, candidateCount).map((algorithm) => ({
    algorithm,
    us: [] as number[],
    isHopeless: false,
    error: undefined as unknown,
  }))
  using flush = new DeviceBuffer(gpu, 'L2 flush', 2 * gpu.device.l2CacheBytes)
  using start = new GpuEvent(gpu, { timing: true })
  using end = new GpuEvent(gpu, { timing: true })
  // Round by round, so that a clock that changes meets all alike. The first round warms up.
  for (let round = -1; round < rounds; round++) {
    for (const candidate of candidates.filter(
      ({ error, isHopeless }) => error === undefined && !isHopeless,
    )) {
      stream.setBytes(flush, round & 0xff)
      start.record(stream)
      try {
        matmul.launch(stream, operands, candidate.algorithm)
      } catch (error) {
        // Heuristics may name what does not run.
        candidate.error = error
        continue
      }
      end.record(stream)
      await end.done()
      if (round >= 0) candidate.us.push(end.elapsedMsSince(start) * 1000)
    }
    const bestUs = Math.min(...candidates.flatMap(({ us }) => us))
    for (const candidate of candidates)
      candidate.isHopeless = candidate.us.some((us) => us > hopelessRatio * bestUs)
  }
  // What is freed here must not be in use.
  await stream.idle()
  const finished = candidates
    .filter(({ error }) => error === undefined)
    .map(({ algorithm, us }) => ({ algorithm, medianUs: median(us) }))
  const first = finished[0]
  if (first === undefined) {
    const reason = 'none of the algorithms that cuBLASLt names for it runs'
    throw new EmbedError('MATMUL_UNSUPPORTED', { ...matmul.shape, reason }, { cause: candidates[0]?.error })
  }
  const best = finished.reduce((a, b) => (b.medianUs < a.medianUs ? b : a))
  return {
    ...best.algorithm,
    medianUs: best.medianUs,
    firstChoiceUs: first.medianUs,
    candidates: finished.length,
  }
}

function parse(content: Uint8Array | undefined): FoundAlgorithm | undefined {
  if (content === undefined) return undefined
  const { algorithm, ...rest } = JSON.parse(Buffer.from(content).toString()) as Omit<
    FoundAlgorithm,
    'bytes'
  > & { algorithm: string }
  return { ...rest, bytes: new Uint8Array(Buffer.from(algorithm, 'base64')) }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!
}
