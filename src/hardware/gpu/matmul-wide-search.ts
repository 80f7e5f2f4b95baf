/** The search among the algorithms that cuBLASLt does not name: uphill, for a time. */
import type { Matmul } from './matmul.ts'
import { type Candidate, fastest, keyOf, medianOf, runs, toCandidate } from './matmul-candidate.ts'
import type { MatmulTimer } from './matmul-timer.ts'
import { type Attempts, otherAlgorithms, readConfig, variantsOf } from './matmul-variants.ts'

export interface WideSearchOptions {
  /** How long algorithms are tried. */
  readonly wideMs: number
  readonly nowMs?: () => number
}

/** As many of the fastest are where it begins. */
const variedCount = 4
/** What gains less is noise, or differs in what has no effect. */
const gainRatio = 0.99
/** Attempts before the clock is looked at. */
const batch = 64

/** Other algorithms; then, from the fastest of all on, what differs in one respect, and from the fastest of that again, as long as
 * it is faster and there is time. @returns what ran, each timed once */
export async function searchWide(
  matmul: Matmul,
  timer: MatmulTimer,
  named: readonly Candidate[],
  { wideMs, nowMs = () => performance.now() }: WideSearchOptions,
): Promise<Candidate[]> {
  const endMs = nowMs() + wideMs
  const seen = new Set(named.map(keyOf))
  const wide: Candidate[] = []
  const tryAll = async (attempts: Attempts, untilMs: number): Promise<Candidate[]> => {
    const tried: Candidate[] = []
    for (const some of inBatches(attempts)) {
      const fresh = some
        .filter((algorithm) => algorithm !== undefined)
        .map((algorithm) => toCandidate(algorithm, undefined))
        .filter((each) => !seen.has(keyOf(each)))
      for (const each of fresh) seen.add(keyOf(each))
      await timer.time(fresh, { isWarmUp: true })
      await timer.time(fresh.filter(runs))
      tried.push(...fresh.filter(runs))
      if (nowMs() >= untilMs) break
    }
    wide.push(...tried)
    return tried
  }
  const ids = new Set(named.map(({ algorithm }) => readConfig(matmul, algorithm).id ?? -1))
  await tryAll(otherAlgorithms(matmul, ids), endMs - wideMs / 2)
  for (let varied = fastest([...named, ...wide], variedCount); varied.length > 0;) {
    const faster: Candidate[] = []
    for (const each of varied) {
      if (nowMs() >= endMs) return wide
      const [best] = fastest(await tryAll(variantsOf(matmul, each.algorithm), endMs), 1)
      if (best !== undefined && medianOf(best) < gainRatio * medianOf(each)) faster.push(best)
    }
    varied = faster
  }
  return wide
}

function* inBatches<Item>(items: Iterable<Item>): Generator<Item[]> {
  let some: Item[] = []
  for (const item of items) {
    some.push(item)
    if (some.length < batch) continue
    yield some
    some = []
  }
  yield some
}
