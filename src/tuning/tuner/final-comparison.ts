/** Baseline, untuned default and winner in turn, so that the figures of the report belong together. */
import { median } from '../measure/percentile.ts'
import { meanLogRatio } from './experiment.ts'
import type { FinalComparison, Interval, LossToUntuned } from './journal.ts'
import { predictRound } from './predict-round.ts'
import { type Side, type Slice, toSlice } from './side.ts'
import { signedRankInterval } from './signed-rank.ts'

type SideName = 'baseline' | 'untuned' | 'winner' | 'plain'

export interface FinalSides {
  readonly baseline: Side
  /** Or why it does not start; the winner itself where that is it. */
  readonly untuned: Side | { readonly missing: string }
  readonly winner: Side
  /** A plain loop to hold the baseline against, with one client; or why there is none. */
  readonly plain: Side | { readonly missing: string }
}

export interface FinalOptions {
  readonly rounds: number
  readonly signal?: AbortSignal | undefined
  readonly onRound?: (round: number, ofRounds: number) => void
}

/** What was found has to prove itself: this much below the default it is not taken, shown or not. */
const doubt = 0.97

/** @param sides borrowed   @throws what a side throws, and the signal's reason */
export async function compareAtEnd(
  { baseline, untuned, winner, plain }: FinalSides,
  options: FinalOptions,
): Promise<FinalComparison> {
  const untunedSide = 'missing' in untuned ? undefined : untuned
  const isUntuned = untunedSide === winner
  const sides = {
    baseline,
    ...(untunedSide === undefined || isUntuned ? {} : { untuned: untunedSide }),
    winner,
    ...('missing' in plain ? {} : { plain }),
  }
  const slices = await measureInTurn(sides, options)
  if (isUntuned) slices.untuned = slices.winner!
  const loss = slices.untuned === undefined ? undefined : findLoss(slices.winner!, slices.untuned)
  const quality = loss === undefined ? undefined : await untunedSide!.assess()
  const chosen = quality?.passed === true ? 'untuned' : 'winner'
  const best = slices[chosen]!
  const scenarios = Object.keys(best[0]!.scenarios)
  return {
    baseline: toSlice(slices.baseline!, median),
    untuned: 'missing' in untuned ? { missing: untuned.missing } : toSlice(slices.untuned!, median),
    winner: toSlice(best, median),
    info: sides[chosen]!.info,
    gains: scenarios.map((scenario) => ({
      scenario,
      overBaseline: compareRates(best, slices.baseline!, scenario),
      overUntuned: slices.untuned === undefined ? undefined : compareRates(best, slices.untuned, scenario),
    })),
    expected: Object.fromEntries(
      scenarios.map((scenario) => [
        scenario,
        predictRound(best.map((slice) => slice.scenarios[scenario]!.textsPerSecond)),
      ]),
    ),
    rounds: options.rounds,
    ...(isUntuned ? { isUntuned } : {}),
    plainLoop:
      'missing' in plain ? { missing: plain.missing } : comparePlain(slices.baseline!, slices.plain!),
    ...(chosen === 'untuned' ? { instead: { lossToUntuned: loss!, quality: quality! } } : {}),
  }
}

function comparePlain(
  baseline: readonly Slice[],
  plain: readonly Slice[],
): NonNullable<FinalComparison['plainLoop']> {
  const [scenario] = Object.keys(plain[0]!.scenarios)
  if (baseline[0]!.scenarios[scenario!] === undefined)
    return { missing: `no closed loop of ${scenario} was run (--clients)` }
  return {
    scenario: scenario!,
    textsPerSecond: median(plain.map((slice) => slice.scenarios[scenario!]!.textsPerSecond)),
    baselineByPlain: compareRates(baseline, plain, scenario!),
  }
}

/** Over all numbers of clients, or of one: who gains with four must not lose with sixteen. */
function findLoss(winner: readonly Slice[], untuned: readonly Slice[]): LossToUntuned | undefined {
  const overall = toInterval(winner.map((slice, i) => meanLogRatio(slice, untuned[i]!)))
  if (overall.high < 1 || overall.ratio < doubt) return overall
  return Object.keys(winner[0]!.scenarios)
    .map((scenario) => ({ ...compareRates(winner, untuned, scenario), scenario }))
    .find(({ high, ratio }) => high < 1 && ratio < doubt)
}

async function measureInTurn(
  sides: Readonly<Partial<Record<SideName, Side>>>,
  { rounds, signal, onRound }: FinalOptions,
): Promise<Partial<Record<SideName, Slice[]>>> {
  const names = Object.keys(sides) as SideName[]
  const slices: Partial<Record<SideName, Slice[]>> = {}
  for (let round = 0; round < rounds; round++) {
    onRound?.(round + 1, rounds)
    for (let turn = 0; turn < names.length; turn++) {
      signal?.throwIfAborted()
      // The first of a round rotates, so that none always follows the same one.
      const name = names[(turn + round) % names.length]!
      ;(slices[name] ??= []).push(await sides[name]!.measure({ all: true }))
    }
  }
  return slices
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
