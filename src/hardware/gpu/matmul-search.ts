/** The fastest algorithm for a shape on this GPU: cuBLASLt's candidates timed on the real shape, for some numbers of rows
 * what differs from the fastest of them too, the winner kept on disk.
 * Its own first choice is 6 to 15 % slower on an H100 (FP8, the products of Qwen3-Embedding-4B). */
import { EmbedError } from '../../errors.ts'
import type { DiskCache } from './disk-cache.ts'
import type { Matmul, MatmulAlgorithm, MatmulOperands, MatmulShape } from './matmul.ts'
import { countGraphNodes } from './graph.ts'
import { makeAgreement } from './matmul-agreement.ts'
import {
  type Candidate,
  fastest,
  formatAlgorithms,
  medianOf,
  parseAlgorithms,
  runs,
  toCandidate,
} from './matmul-candidate.ts'
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
  /** How long algorithms are tried that cuBLASLt does not name; 0: none. Default 300 for 65 to 512 rows, else 0. */
  readonly wideMs?: number
  readonly nowMs?: () => number
}

export interface FoundAlgorithm extends MatmulAlgorithm {
  /** Median of a product whose operands were not in the L2 cache. */
  readonly medianUs: number
  /** Of cuBLASLt's first choice. */
  readonly firstChoiceUs: number
  readonly candidates: number
  /** Of a graph: 1, and 1 for each memset or reduction that goes with it. */
  readonly nodes: number
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
const searchVersion = 4
/** Split-K and stream-K, which few rows want, are often not among the first. */
const candidateCount = 64
/** One that took so many times as long as the best is not timed again. */
const hopelessRatio = 1.5
/** As many of those that cuBLASLt does not name are timed like its own. */
const finalistCount = 8
/** How many of the fastest are given back, and how much slower they may be: alone a product does not show what it costs among
 * its neighbours, where a memset before it is 5 us of pause (H200). */
const choiceCount = 4
const choiceMarginUs = 6
/** Of the same number of nodes. */
const alikeCount = 2

/** On an H200 it gains 2 % at 128 rows and 4 % at 512, less than 1 % at 16 and at 4,096 (E4M3, Qwen3-4B's products). */
function defaultWideMs({ rows }: MatmulShape): number {
  return rows > 64 && rows <= 512 ? 300 : 0
}

/** The fastest. @throws {EmbedError} MATMUL_UNSUPPORTED, GPU_OUT_OF_MEMORY, CUDA_STATUS */
export async function searchAlgorithm(matmul: Matmul, options: MatmulSearchOptions): Promise<FoundAlgorithm> {
  const [best] = await searchAlgorithms(matmul, options)
  return best!
}

/** Those among which the fastest of a whole pass should be, the fastest alone first.
 * @throws {EmbedError} MATMUL_UNSUPPORTED, GPU_OUT_OF_MEMORY, CUDA_STATUS */
export async function searchAlgorithms(
  matmul: Matmul,
  options: MatmulSearchOptions,
): Promise<readonly FoundAlgorithm[]> {
  const { wideMs = defaultWideMs(matmul.shape) } = options
  const key = cacheKeyOf(matmul, wideMs)
  const known = parseAlgorithms(await options.cache?.read(key)) as FoundAlgorithm[] | undefined
  if (known?.every(({ bytes }) => matmul.check(bytes) !== undefined) === true) return known
  const found = await chooseAlgorithms(matmul, await timeCandidates(matmul, { ...options, wideMs }), options)
  await options.cache?.write(key, formatAlgorithms(found))
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
export async function timeInRounds(
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

/** Of those whose product is that of cuBLASLt's first choice: the fastest, the next, and the fastest of each other number of
 * nodes. */
export async function chooseAlgorithms(
  matmul: Matmul,
  { named, finalists, triedCount }: TimedCandidates,
  options: MatmulSearchOptions,
): Promise<FoundAlgorithm[]> {
  const first = named[0]!
  const agrees = await makeAgreement(matmul, first.algorithm, options)
  const choices: FoundAlgorithm[] = []
  for (const candidate of fastest([...named, ...finalists])) {
    const { algorithm } = candidate
    const medianUs = medianOf(candidate)
    if (choices.length === choiceCount || medianUs > (choices[0]?.medianUs ?? Infinity) + choiceMarginUs)
      break
    const nodes = countNodes(matmul, algorithm, options)
    if (choices.filter((each) => each.nodes === nodes).length === alikeCount) continue
    if (candidate !== first && !(await agrees(algorithm))) continue
    const { bytes, workspaceBytes } = algorithm
    const timed = { medianUs, firstChoiceUs: medianOf(first), candidates: triedCount, nodes }
    choices.push({ bytes, workspaceBytes, ...timed })
  }
  return choices
}

/** 1 where it cannot be recorded: then there are no graphs. */
function countNodes(matmul: Matmul, algorithm: MatmulAlgorithm, options: MatmulSearchOptions): number {
  const { stream, operands } = options
  try {
    return countGraphNodes(stream, () => matmul.launch(stream, operands, algorithm))
  } catch {
    return 1
  }
}
