/** One candidate beside the incumbent: measured, judged, and the verdict with its reason. */
import { toReason } from '../../errors.ts'
import { median } from '../measure/percentile.ts'
import { type SidesVerdict, compareSides } from './compare-sides.ts'
import {
  type Side,
  type SideInfo,
  type SideQuality,
  type Settings,
  type Slice,
  type StartSide,
  toSlice,
} from './side.ts'
import { signedRankInterval } from './signed-rank.ts'
import { gpuBytesOf } from './targets.ts'

export interface ExperimentResult {
  readonly outcome: 'kept' | 'rolled back' | 'failed'
  readonly reason: string
  readonly info?: SideInfo
  /** Of texts/s, the geometric mean over the scenarios: candidate by incumbent. */
  readonly comparison?: SidesVerdict
  readonly candidate?: Slice
  readonly incumbent?: Slice
  /** Only of candidates that were faster. */
  readonly quality?: SideQuality
}

export interface MemoryLimits {
  /** Of the process, for engines on the CPU: one that built a plan for the GPU keeps what the builder took. */
  readonly rssBytes?: number | undefined
  /** What an engine holds on the GPU. */
  readonly gpuBytes?: number | undefined
}

export interface ExperimentOptions {
  readonly incumbent: Side
  readonly start: StartSide
  readonly settings: Settings
  readonly memoryLimits?: MemoryLimits | undefined
  readonly maxPairs?: number | undefined
  /** True once this experiment has had its time: then what is not shown counts as no gain. */
  readonly isOver?: ((estimate: number) => boolean) | undefined
  readonly signal?: AbortSignal | undefined
}

/** Level at which one scenario decides: it vetoes a candidate that is faster over all; and it keeps one that is not, where none
 * loses: a larger batch helps sixteen clients by a tenth and one client not at all, and in the mean of them that is noise. */
const oneScenarioAlpha = 0.01

/** @returns the result, and the candidate's side when it was kept: the caller owns it then
 * @throws what the incumbent's side throws, and the signal's reason */
export async function runExperiment(
  options: ExperimentOptions,
): Promise<{ result: ExperimentResult; side?: Side }> {
  const { incumbent, signal } = options
  let candidate: Side
  try {
    candidate = await options.start(options.settings)
  } catch (error) {
    signal?.throwIfAborted()
    return { result: { outcome: 'failed', reason: `does not start: ${toReason(error)}` } }
  }
  const { info } = candidate
  let result: ExperimentResult
  try {
    result = { info, ...(await measureAndJudge(candidate, incumbent, options)) }
  } catch (error) {
    await dispose(candidate)
    signal?.throwIfAborted()
    if (!(error instanceof CandidateError)) throw error
    return { result: { outcome: 'failed', reason: error.message, info } }
  }
  if (result.outcome === 'kept') return { result, side: candidate }
  await dispose(candidate)
  return { result }
}

/** What the candidate threw, so that it is told from a failing incumbent. */
class CandidateError extends Error {}

async function ofCandidate<Value>(doing: string, promise: Promise<Value>): Promise<Value> {
  try {
    return await promise
  } catch (error) {
    throw new CandidateError(`failed while ${doing}: ${toReason(error)}`, { cause: error })
  }
}

async function measureAndJudge(
  candidate: Side,
  incumbent: Side,
  { memoryLimits = {}, maxPairs, isOver, signal }: ExperimentOptions,
): Promise<ExperimentResult> {
  const slices = { candidate: [] as Slice[], incumbent: [] as Slice[] }
  const comparison = await compareSides(
    async (pair) => {
      signal?.throwIfAborted()
      const measureCandidate = async (): Promise<void> => {
        slices.candidate.push(await ofCandidate('it was measured', candidate.measure()))
      }
      if (pair % 2 === 1) await measureCandidate()
      slices.incumbent.push(await incumbent.measure())
      if (pair % 2 === 0) await measureCandidate()
      return meanLogRatio(slices.candidate.at(-1)!, slices.incumbent.at(-1)!)
    },
    { maxPairs, isOver },
  )
  const measured = {
    comparison,
    candidate: toSlice(slices.candidate, median),
    incumbent: toSlice(slices.incumbent, median),
  }
  const rollBack = (reason: string): ExperimentResult => ({ outcome: 'rolled back', reason, ...measured })
  if (comparison.verdict === 'worse') return rollBack('slower')
  const isBetter = comparison.verdict === 'better'
  const faster =
    isBetter || comparison.ratio < 1
      ? undefined
      : findScenario(slices, oneScenarioAlpha, ({ low }) => low > 0)
  if (!isBetter && faster === undefined) {
    return rollBack(
      isOver?.(Math.log(comparison.ratio)) === true ? 'no gain shown in the time it had' : 'no gain shown',
    )
  }
  const slower = findScenario(slices, oneScenarioAlpha, ({ high }) => high < 0)
  if (slower !== undefined)
    return rollBack(`faster ${isBetter ? 'over all' : `with ${faster}`}, but slower with ${slower}`)
  const gpuBytes = gpuBytesOf(candidate.info)
  const [bytes, allowed, where] =
    gpuBytes === undefined
      ? [measured.candidate.rssBytes, memoryLimits.rssBytes, 'memory']
      : [gpuBytes, memoryLimits.gpuBytes, "the GPU's memory"]
  if (allowed !== undefined && bytes > allowed) {
    return rollBack(`takes ${toMib(bytes)} MiB of ${where}, ${toMib(allowed)} are allowed`)
  }
  const quality = await ofCandidate('its quality was judged', candidate.assess())
  if (!quality.passed) {
    const failed = quality.checks.filter((check) => !check.passed)
    const words = failed.map(({ name, value, limit }) => `${name} ${value.toPrecision(4)} (limit ${limit})`)
    return { ...rollBack(`quality: ${words.join(', ')}`), quality }
  }
  return {
    outcome: 'kept',
    reason: isBetter ? 'faster' : `faster with ${faster}`,
    ...measured,
    quality,
  }
}

/** Log of candidate / incumbent in texts/s, the mean over the scenarios. */
export function meanLogRatio(candidate: Slice, incumbent: Slice): number {
  const logs = logRatios(candidate, incumbent)
  return logs.reduce((sum, { log }) => sum + log, 0) / logs.length
}

/** Log of candidate / incumbent in texts/s, a scenario each. */
function logRatios(candidate: Slice, incumbent: Slice): { name: string; log: number }[] {
  return Object.entries(incumbent.scenarios).map(([name, { textsPerSecond }]) => ({
    name,
    log: Math.log(candidate.scenarios[name]!.textsPerSecond / textsPerSecond),
  }))
}

/** The first scenario whose ratio of candidate to incumbent has such an interval. */
function findScenario(
  { candidate, incumbent }: { readonly candidate: readonly Slice[]; readonly incumbent: readonly Slice[] },
  alpha: number,
  isFound: (interval: ReturnType<typeof signedRankInterval>) => boolean,
): string | undefined {
  const pairs = candidate.map((slice, i) => logRatios(slice, incumbent[i]!))
  return pairs[0]!.find((_scenario, place) =>
    isFound(
      signedRankInterval(
        pairs.map((pair) => pair[place]!.log),
        alpha,
      ),
    ),
  )?.name
}

/** A candidate that died has nothing left to dispose. */
async function dispose(side: Side): Promise<void> {
  await Promise.resolve(side[Symbol.asyncDispose]()).catch(() => undefined)
}

function toMib(bytes: number): number {
  return Math.round(bytes / 2 ** 20)
}
