/** Baseline, untuned default and winner in turn, so that the figures of the report belong together. */
import { median } from '../measure/percentile.ts'
import { meanLogRatio } from './experiment.ts'
import type { FinalComparison, Interval } from './journal.ts'
import { predictRound } from './predict-round.ts'
import { type Side, type Slice, toSlice } from './side.ts'
import { signedRankInterval } from './signed-rank.ts'

const names = ['baseline', 'untuned', 'winner'] as const
type SideName = (typeof names)[number]

export interface FinalOptions {
  readonly rounds: number
  readonly signal?: AbortSignal | undefined
  readonly onRound?: (round: number, ofRounds: number) => void
}

/** What was found has to prove itself: this much below the default it is not taken, shown or not. */
const doubt = 0.97

/** @param sides borrowed   @throws what a side throws, and the signal's reason */
export async function compareAtEnd(
  sides: Readonly<Record<SideName, Side>>,
  { rounds, signal, onRound }: FinalOptions,
): Promise<FinalComparison> {
  const slices: Record<SideName, Slice[]> = { baseline: [], untuned: [], winner: [] }
  for (let round = 0; round < rounds; round++) {
    onRound?.(round + 1, rounds)
    for (let turn = 0; turn < names.length; turn++) {
      signal?.throwIfAborted()
      // The first of a round rotates, so that none always follows the same one.
      const name = names[(turn + round) % names.length]!
      slices[name].push(await sides[name].measure())
    }
  }
  const lossToUntuned = toInterval(slices.winner.map((slice, i) => meanLogRatio(slice, slices.untuned[i]!)))
  // A search that time cut short, or noise led astray, must not leave the user slower than without it.
  const isSlower = lossToUntuned.high < 1 || lossToUntuned.ratio < doubt
  const quality = isSlower ? await sides.untuned.assess() : undefined
  const chosen = quality?.passed === true ? 'untuned' : 'winner'
  const best = slices[chosen]
  const scenarios = Object.keys(best[0]!.scenarios)
  return {
    baseline: toSlice(slices.baseline, median),
    untuned: toSlice(slices.untuned, median),
    winner: toSlice(best, median),
    info: sides[chosen].info,
    gains: scenarios.map((scenario) => ({
      scenario,
      overBaseline: compareRates(best, slices.baseline, scenario),
      overUntuned: compareRates(best, slices.untuned, scenario),
    })),
    expected: Object.fromEntries(
      scenarios.map((scenario) => [
        scenario,
        predictRound(best.map((slice) => slice.scenarios[scenario]!.textsPerSecond)),
      ]),
    ),
    rounds,
    ...(chosen === 'untuned' ? { instead: { lossToUntuned, quality: quality! } } : {}),
  }
}

function compareRates(slices: readonly Slice[], others: readonly Slice[], scenario: string): Interval {
  return toInterval(slices.map((slice, i) => logRatio(slice, others[i]!, scenario)))
}

function logRatio(slice: Slice, other: Slice, scenario: string): number {
  const rate = ({ scenarios }: Slice): number => scenarios[scenario]!.textsPerSecond
  return Math.log(rate(slice) / rate(other))
}

function toInterval(logs: readonly number[]): Interval {
  const { estimate, low, high } = signedRankInterval(logs, 0.05)
  return { ratio: Math.exp(estimate), low: Math.exp(low), high: Math.exp(high) }
}
