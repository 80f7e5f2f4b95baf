/** Whether a tuned configuration still gives what it gave. */
import { median } from '../measure/percentile.ts'
import { type ScenarioFigures, type Side, type SideQuality, type Slice, toSlice } from './side.ts'
import type { TunedFile } from './tuned-config.ts'

export interface VerifiedScenario {
  readonly scenario: string
  /** Median over the rounds of the last visit. */
  readonly textsPerSecond: number
  /** By what it was when it was tuned. */
  readonly ratio: number
  readonly expected?: { readonly low: number; readonly high: number }
  readonly verdict: 'SLOWER' | 'as expected' | 'faster' | 'no interval recorded'
}

export interface Verification {
  readonly passed: boolean
  readonly visits: number
  readonly scenarios: readonly VerifiedScenario[]
  readonly quality: SideQuality
}

export interface VerifyOptions {
  readonly signal?: AbortSignal | undefined
  readonly onRound?: (visit: number, round: number, ofRounds: number) => void
}

/** As many as of the comparison at the end of a run by default, and measured alike. */
const rounds = 12
/** Other work passes, a loss stays: what is slower is measured again before it is believed. */
const maxVisits = 3

/** @param side borrowed, of the tuned settings   @throws what the side throws, and the signal's reason */
export async function verifyTuned(
  measured: TunedFile['measured'],
  side: Side,
  options: VerifyOptions = {},
): Promise<Verification> {
  let scenarios: VerifiedScenario[] = []
  let visits = 0
  do {
    visits++
    const slice = await visit(side, visits, options)
    scenarios = Object.entries(measured).map(([scenario, then]) =>
      compare(scenario, slice.scenarios[scenario]!, then),
    )
  } while (visits < maxVisits && scenarios.some(({ verdict }) => verdict === 'SLOWER'))
  const quality = await side.assess()
  const passed = quality.passed && scenarios.every(({ verdict }) => verdict !== 'SLOWER')
  return { passed, visits, scenarios, quality }
}

async function visit(side: Side, number: number, { signal, onRound }: VerifyOptions): Promise<Slice> {
  const slices: Slice[] = []
  for (let round = 1; round <= rounds; round++) {
    signal?.throwIfAborted()
    onRound?.(number, round, rounds)
    slices.push(await side.measure({ all: true }))
  }
  return toSlice(slices, median)
}

function compare(
  scenario: string,
  { textsPerSecond }: ScenarioFigures,
  then: TunedFile['measured'][string],
): VerifiedScenario {
  const common = { scenario, textsPerSecond, ratio: textsPerSecond / then.textsPerSecond }
  const { expected } = then
  if (expected === undefined) return { ...common, verdict: 'no interval recorded' }
  const verdict =
    textsPerSecond < expected.low ? 'SLOWER' : textsPerSecond > expected.high ? 'faster' : 'as expected'
  return { ...common, expected, verdict }
}
