/** The search among the algorithms that cuBLASLt does not name: uphill, for a time. */
import type { Matmul } from './matmul.ts'
import { type Candidate, fastest, keyOf, medianOf, runs, toCandidate } from './matmul-candidate.ts'
import type { MatmulTimer } from './matmul-timer.ts'
import { type Attempts, otherAlgorithms, readConfig, respects, variantsOf } from './matmul-variants.ts'

export interface WideSearchOptions {
  /** How long algorithms are tried. */
  readonly wideMs: number
  readonly nowMs?: () => number
}

/** As many of the fastest are begun at, one after the other. */
const startCount = 4
const confirmations = 2
/** What gains less is noise, or differs in what has no effect. */
const gainRatio = 0.99
/** Attempts before the clock is looked at. */
const batch = 64

/** From one of cuBLASLt's own on all that differs in one respect, from the fastest of those on in the next, and round again as
 * long as that is faster; algorithms with other ids at last, if there is time. @returns what ran */
export async function searchWide(
  matmul: Matmul,
  timer: MatmulTimer,
  named: readonly Candidate[],
  { wideMs, nowMs = () => performance.now() }: WideSearchOptions,
): Promise<Candidate[]> {
  const endMs = nowMs() + wideMs
  const seen = new Set(named.map(keyOf))
  const wide: Candidate[] = []
  const tryAll = async (attempts: Attempts): Promise<Candidate[]> => {
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
      if (nowMs() >= endMs) break
    }
    wide.push(...tried)
    return tried
  }
  for (const start of fastest(named, startCount)) {
    let best = start
    for (let isBetter = true; isBetter;) {
      isBetter = false
      for (const respect of respects) {
        if (nowMs() >= endMs) return wide
        const [next] = fastest(await tryAll(variantsOf(matmul, best.algorithm, respect)), 1)
        if (next === undefined || !isFaster(next, best)) continue
        // Once more each: a single time may be luck.
        for (let i = 0; i < confirmations; i++) await timer.time([best, next])
        if (!isFaster(next, best)) continue
        best = next
        isBetter = true
      }
    }
  }
  const ids = new Set(named.map(({ algorithm }) => readConfig(matmul, algorithm).id ?? -1))
  await tryAll(otherAlgorithms(matmul, ids))
  return wide
}

function isFaster(next: Candidate, best: Candidate): boolean {
  return medianOf(next) < gainRatio * medianOf(best)
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
