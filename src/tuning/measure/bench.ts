/** Targets side by side: interleaved rounds of every scenario, one target under load at a time. */
import type { BenchRecord, BenchRow } from './bench-record.ts'
import { type Load, type LoadClock, type RoundResult, runLoad } from './load.ts'
import { type MachineSample, readMachine, sampleMachine } from './machine-state.ts'
import { median, percentile } from './percentile.ts'
import type { LoadTarget } from './target.ts'
import type { Workload } from './workload.ts'

export interface Scenario {
  readonly name: string
  readonly workload: Workload
  readonly load: Load
}

export interface BenchOptions {
  readonly targets: readonly LoadTarget[]
  readonly scenarios: readonly Scenario[]
  readonly rounds: number
  readonly roundMs: number
  readonly warmupMs: number
  readonly model: string
  readonly packageVersion: string
  readonly signal?: AbortSignal
  readonly clock?: LoadClock
  readonly onRound?: (done: { readonly rounds: number; readonly ofRounds: number }) => void
}

/** @throws {EmbedError} TARGET_FAILED, REQUEST_CANCELLED */
export async function runBench(options: BenchOptions): Promise<BenchRecord> {
  const { targets, scenarios, rounds, roundMs, warmupMs, signal } = options
  const rows = scenarios.map((scenario) =>
    targets.map((target) => ({
      target: target.name,
      scenario: scenario.name,
      rounds: [] as RoundResult[],
    })),
  )
  const samples: MachineSample[] = [sampleMachine()]
  let done = 0
  for (let round = 0; round < rounds; round++) {
    for (const [s, { workload, load }] of scenarios.entries()) {
      for (let turn = 0; turn < targets.length; turn++) {
        // The first of a round rotates, so that no target always follows the same one.
        const t = (turn + round) % targets.length
        const result = await runLoad(targets[t]!, {
          workload,
          load,
          durationMs: roundMs,
          warmupMs,
          // The same arrivals for every target of a round.
          seed: round + 1,
          ...(signal === undefined ? {} : { signal }),
          ...(options.clock === undefined ? {} : { clock: options.clock }),
        })
        rows[s]![t]!.rounds.push(result)
        options.onRound?.({ rounds: ++done, ofRounds: rounds * scenarios.length * targets.length })
      }
    }
    samples.push(sampleMachine())
  }
  const machine = readMachine()
  const flat = rows.flat()
  return {
    version: 1,
    date: new Date().toISOString(),
    packageVersion: options.packageVersion,
    machine: { ...machine, cpuFeatures: [...machine.cpuFeatures] },
    model: options.model,
    settings: { rounds, roundMs, warmupMs },
    samples,
    noise: findNoise(flat, samples[0]!.loadAverage, machine.usableCores),
    rows: flat,
  }
}

/** Rounds of a quiet two-core machine lie within this of each other (interquartile range by median). */
const quietSpread = 0.1

/** Reasons to doubt a run: the machine did other things, or the rounds disagree. */
export function findNoise(
  rows: readonly BenchRow[],
  loadAverageBefore: number,
  usableCores: number,
): string[] {
  const busy =
    loadAverageBefore > usableCores / 2
      ? [`load average ${loadAverageBefore.toFixed(2)} before the first round, on ${usableCores} cores`]
      : []
  const spread = rows.flatMap(({ target, scenario, rounds }) => {
    const rates = rounds.map((round) => round.textsPerSecond)
    const share = (percentile(rates, 0.75) - percentile(rates, 0.25)) / median(rates)
    return share > quietSpread
      ? [
          `${target}, ${scenario}: the middle half of the rounds spans ${(share * 100).toFixed(0)} % in texts/s`,
        ]
      : []
  })
  const refused = rows.flatMap(({ target, scenario, rounds }) => {
    const errors = rounds.reduce((sum, round) => sum + round.errors, 0)
    const first = rounds.find((round) => round.firstError !== undefined)?.firstError
    return errors === 0 ? [] : [`${target}, ${scenario}: ${errors} requests failed, the first: ${first}`]
  })
  return [...busy, ...spread, ...refused]
}
