/** The fastest algorithm for a shape on this GPU: cuBLASLt's candidates timed on the real shape, for few rows what differs from
 * the fastest of them too, the winner kept on disk.
 * Its own first choice is 6 to 15 % slower on an H100 (FP8, the products of Qwen3-Embedding-4B). */
import { EmbedError } from '../../errors.ts'
import type { DiskCache } from './disk-cache.ts'
import type { Matmul, MatmulAlgorithm, MatmulOperands, MatmulShape } from './matmul.ts'
import { makeAgreement } from './matmul-agreement.ts'
import { type Candidate, fastest, medianOf, runs, toCandidate } from './matmul-candidate.ts'
import { MatmulTimer } from './matmul-timer.ts'
import { searchWide } from './matmul-wide-search.ts'
import type { GpuStream } from './stream.ts'

export interface MatmulSearchOptions {
  readonly stream: GpuStream
  /** Random values, not zeros: those are up to 20 % faster, since power counts. D is written over. */
  readonly operands: MatmulOperands
  readonly cache?: DiskCache
  /** Timings of a candidate; the median counts. Default 5. */
  readonly rounds?: number
  /** How long algorithms are tried that cuBLASLt does not name; 0: none. Default 200 for at most 128 rows, else 0. */
  readonly wideMs?: number
  readonly nowMs?: () => number
}

export interface FoundAlgorithm extends MatmulAlgorithm {
  /** Median of a product whose operands were not in the L2 cache. */
  readonly medianUs: number
  /** Of cuBLASLt's first choice. */
  readonly firstChoiceUs: number
  readonly candidates: number
}

export interface TimedCandidates {
  /** cuBLASLt's own that run, in its order. */
  readonly named: readonly Candidate[]
  /** The fastest of those that it does not name, timed like the others. */
  readonly finalists: readonly Candidate[]
  /** All that ran. */
  readonly triedCount: number
}

/** Raised whenever another algorithm may be found than before. */
const searchVersion = 2
/** Split-K and stream-K, which few rows want, are often not among the first. */
const candidateCount = 64
/** One that took so many times as long as the best is not timed again. */
const hopelessRatio = 1.5
/** As many of those that cuBLASLt does not name are timed like its own. */
const finalistCount = 8
function defaultWideMs({ rows }: MatmulShape): number {
  return rows <= 128 ? 200 : 0
}

/** @throws {EmbedError} MATMUL_UNSUPPORTED, GPU_OUT_OF_MEMORY, CUDA_STATUS */
export async function searchAlgorithm(matmul: Matmul, options: MatmulSearchOptions): Promise<FoundAlgorithm> {
  const { wideMs = defaultWideMs(matmul.shape) } = options
  const key = cacheKeyOf(matmul, wideMs)
  const known = parse(await options.cache?.read(key))
  if (known !== undefined && matmul.check(known.bytes) !== undefined) return known
  const found = await chooseAlgorithm(matmul, await timeCandidates(matmul, { ...options, wideMs }), options)
  const { bytes, ...rest } = found
  const content = JSON.stringify({ ...rest, algorithm: Buffer.from(bytes).toString('base64') })
  await options.cache?.write(key, Buffer.from(content))
  return found
}

/** What decides which algorithm is fastest. */
function cacheKeyOf({ shape, library }: Matmul, wideMs: number): unknown {
  const { name, computeCapability, multiprocessorCount } = library.gpu.device
  const { precision, rows, columns, inner, bias = false, accumulate = false } = shape
  return {
    cublaslt: library.version,
    workspaceBytes: library.workspace.bytes,
    search: [searchVersion, candidateCount, wideMs],
    device: [name, computeCapability.major, computeCapability.minor, multiprocessorCount],
    shape: [precision, rows, columns, inner, bias, accumulate],
  }
}

/** @throws {EmbedError} MATMUL_UNSUPPORTED when cuBLASLt names none that runs */
export async function timeCandidates(
  matmul: Matmul,
  options: MatmulSearchOptions & { readonly wideMs: number },
): Promise<TimedCandidates> {
  const { stream, operands, rounds = 5, wideMs } = options
  const named = matmul
    .heuristics(operands, candidateCount)
    .map((algorithm, rank) => toCandidate(algorithm, rank))
  using timer = new MatmulTimer(matmul, stream, operands)
  try {
    await timeInRounds(timer, named, rounds)
    const running = named.filter(runs)
    if (running.length === 0) {
      const reason = 'none of the algorithms that cuBLASLt names for it runs'
      throw new EmbedError('MATMUL_UNSUPPORTED', { ...matmul.shape, reason }, { cause: named[0]?.error })
    }
    const wide = wideMs === 0 ? [] : await searchWide(matmul, timer, named, options)
    const finalists = fastest(wide, finalistCount)
    // What made them finalists may have been luck.
    for (const { us } of finalists) us.length = 0
    const bestNamed = fastest(running, 1)
    for (let round = 0; round < rounds && finalists.length > 0; round++)
      await timer.time([...bestNamed, ...finalists])
    return { named: running, finalists, triedCount: running.length + wide.length }
  } finally {
    // What is freed then must not be in use.
    await stream.idle()
  }
}

/** Round by round, so that a clock that changes meets all alike. The first round warms up. */
async function timeInRounds(
  timer: MatmulTimer,
  candidates: readonly Candidate[],
  rounds: number,
): Promise<void> {
  await timer.time(candidates, { isWarmUp: true })
  let hopeful = candidates.filter(runs)
  for (let round = 0; round < rounds; round++) {
    await timer.time(hopeful)
    const bestUs = Math.min(...hopeful.flatMap(({ us }) => us))
    hopeful = hopeful.filter((each) => runs(each) && each.us.every((us) => us <= hopelessRatio * bestUs))
  }
}

/** The fastest whose product is that of cuBLASLt's first choice. */
export async function chooseAlgorithm(
  matmul: Matmul,
  { named, finalists, triedCount }: TimedCandidates,
  options: MatmulSearchOptions,
): Promise<FoundAlgorithm> {
  const first = named[0]!
  const agrees = await makeAgreement(matmul, first.algorithm, options)
  let best = first
  for (const candidate of fastest([...named, ...finalists])) {
    best = candidate
    if (candidate === first || (await agrees(candidate.algorithm))) break
  }
  return {
    ...best.algorithm,
    medianUs: medianOf(best),
    firstChoiceUs: medianOf(first),
    candidates: triedCount,
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
