/** The whole run: baseline, one change at a time, what helps stays. */
import { EmbedError } from '../../errors.ts'
import { median } from '../measure/percentile.ts'
import { descend } from './descend.ts'
import { runExperiment } from './experiment.ts'
import type { ExperimentEntry, FinalComparison, Interval, Journal, JournalEntry } from './journal.ts'
import type { KnobValue, Stage, StageKnob } from './search-space.ts'
import { type Side, type Settings, type Slice, type StartSide, toSlice } from './side.ts'
import { predictRound } from './predict-round.ts'
import { signedRankInterval } from './signed-rank.ts'
import type { TunedKey } from './tuned-config.ts'

export interface TuneOptions {
  readonly key: TunedKey
  readonly stages: readonly Stage[]
  readonly baseline: Settings
  /** What a user gets without tuning. */
  readonly untuned: Settings
  readonly start: StartSide
  readonly journal: Journal
  /** Entries of the run to go on with; empty for a new one. */
  readonly earlier: readonly JournalEntry[]
  readonly maxMemoryBytes?: number | undefined
  readonly maxPairs?: number | undefined
  readonly maxTrials?: number | undefined
  readonly budgetMs?: number | undefined
  /** Rounds of the comparison at the end. Default 12. */
  readonly finalRounds?: number
  readonly nowMs?: () => number
  readonly signal?: AbortSignal | undefined
  readonly onEvent?: (event: TuneEvent) => void
}

export type TuneEvent =
  | { readonly kind: 'baseline' | 'final' }
  | { readonly kind: 'try'; readonly stage: string; readonly change: Settings; readonly trial: number }
  | { readonly kind: 'entry'; readonly entry: JournalEntry }

export interface TuneResult {
  readonly incumbentId: string
  readonly settings: Settings
  readonly final: FinalComparison
}

/** @throws {EmbedError} NO_ENGINE, … when the baseline does not start or is not what the model says (TUNING_FAILED);
 * NO_SPACE, FILE_UNWRITABLE; the signal's reason: the journal then holds all that was found */
export async function tune(options: TuneOptions): Promise<TuneResult> {
  return new Tuner(options).run()
}

class Tuner {
  readonly #options: TuneOptions
  readonly #startedMs: number
  readonly #nowMs: () => number
  readonly #earlier: ExperimentEntry[]
  #incumbent: { id: string; settings: Settings; side: Side | undefined }
  #trials = 0
  #stoppedBy: string | undefined

  constructor(options: TuneOptions) {
    this.#options = options
    this.#nowMs = options.nowMs ?? (() => performance.now())
    this.#startedMs = this.#nowMs()
    this.#earlier = options.earlier.filter((entry) => entry.kind === 'experiment')
    this.#incumbent = { id: 'baseline', settings: options.baseline, side: undefined }
  }

  async run(): Promise<TuneResult> {
    const { earlier, key, stages } = this.#options
    const date = new Date().toISOString()
    if (earlier.length === 0) {
      await this.#write({ kind: 'begin', version: 1, date, key, stages: stages.map(({ name }) => name) })
    } else await this.#write({ kind: 'resume', date })
    try {
      if (!earlier.some((entry) => entry.kind === 'baseline')) await this.#measureBaseline()
      for (const stage of stages) await this.#runStage(stage)
      const final = await this.#compareAtEnd()
      const { id, settings } = this.#incumbent
      await this.#write({
        kind: 'end',
        date: new Date().toISOString(),
        incumbentId: id,
        final,
        ...(this.#stoppedBy === undefined ? {} : { stoppedBy: this.#stoppedBy }),
      })
      return { incumbentId: id, settings, final }
    } finally {
      await this.#incumbent.side?.[Symbol.asyncDispose]()
    }
  }

  async #measureBaseline(): Promise<void> {
    this.#options.onEvent?.({ kind: 'baseline' })
    const side = await this.#side()
    const quality = await side.assess()
    if (!quality.passed) {
      const failed = quality.checks.filter((check) => !check.passed).map(({ name }) => name)
      throw new EmbedError('TUNING_FAILED', {
        reason: `the baseline fails its own quality check: ${failed.join(', ')}`,
      })
    }
    const slice = await this.#measure(side, 5)
    await this.#write({
      kind: 'baseline',
      settings: this.#incumbent.settings,
      info: side.info,
      slice,
      quality,
    })
  }

  async #runStage(stage: Stage): Promise<void> {
    if (stage.skipped !== undefined) {
      const isKnown = this.#options.earlier.some(
        (entry) => entry.kind === 'skip' && entry.stage === stage.name,
      )
      if (!isKnown) await this.#write({ kind: 'skip', stage: stage.name, reason: stage.skipped })
      return
    }
    for (const knob of stage.knobs) {
      const current = this.#incumbent.settings[knob.key] ?? knob.byDefault
      await descend(knob, current, (value) => this.#try(stage, knob, value))
    }
  }

  /** @returns whether it was kept; false without trying once the budget is spent */
  async #try(stage: Stage, knob: StageKnob, value: KnobValue): Promise<boolean> {
    const { signal, start, maxMemoryBytes, maxPairs, onEvent } = this.#options
    signal?.throwIfAborted()
    const change = { [knob.key]: value } as Settings
    const settings = { ...this.#incumbent.settings, ...change }
    const known = this.#findEarlier(settings)
    if (known !== undefined) {
      this.#trials++
      if (known.result.outcome === 'kept') await this.#replaceIncumbent(known.id, settings, undefined)
      return known.result.outcome === 'kept'
    }
    if (this.#isSpent()) return false
    this.#trials++
    onEvent?.({ kind: 'try', stage: stage.name, change, trial: this.#trials })
    const incumbentId = this.#incumbent.id
    const startedMs = this.#nowMs()
    const incumbent = await this.#side()
    const { result, side } = await runExperiment({
      incumbent,
      start,
      settings,
      maxMemoryBytes,
      maxPairs,
      signal,
    })
    const id = `e${this.#trials}`
    const durationMs = this.#nowMs() - startedMs
    // The side belongs to the tuner from here on, whatever becomes of the journal.
    if (side !== undefined) await this.#replaceIncumbent(id, settings, side)
    await this.#write({
      kind: 'experiment',
      id,
      incumbentId,
      stage: stage.name,
      change,
      settings,
      durationMs,
      result,
    })
    return result.outcome === 'kept'
  }

  /** The same settings against the same incumbent: what an earlier run of this journal found holds. */
  #findEarlier(settings: Settings): ExperimentEntry | undefined {
    return this.#earlier.find(
      (entry) => entry.incumbentId === this.#incumbent.id && isSame(entry.settings, settings),
    )
  }

  #isSpent(): boolean {
    const { maxTrials = Infinity, budgetMs = Infinity } = this.#options
    if (this.#trials >= maxTrials) this.#stoppedBy = `the ${maxTrials} trials allowed`
    if (this.#nowMs() - this.#startedMs > budgetMs) {
      this.#stoppedBy = `the ${Math.round(budgetMs / 60_000)} minutes allowed`
    }
    return this.#stoppedBy !== undefined
  }

  async #side(): Promise<Side> {
    this.#incumbent.side ??= await this.#options.start(this.#incumbent.settings)
    return this.#incumbent.side
  }

  async #replaceIncumbent(id: string, settings: Settings, side: Side | undefined): Promise<void> {
    const old = this.#incumbent.side
    this.#incumbent = { id, settings, side }
    await old?.[Symbol.asyncDispose]()
  }

  async #measure(side: Side, rounds: number): Promise<Slice> {
    const slices: Slice[] = []
    for (let round = 0; round < rounds; round++) {
      this.#options.signal?.throwIfAborted()
      slices.push(await side.measure())
    }
    return toSlice(slices, median)
  }

  /** Three sides in turn, so that the figures of the report belong together. */
  async #compareAtEnd(): Promise<FinalComparison> {
    const { start, baseline, untuned, finalRounds = 12, signal, onEvent } = this.#options
    onEvent?.({ kind: 'final' })
    const winner = await this.#side()
    await using baselineSide = await start(baseline)
    await using untunedSide = await start(untuned)
    const sides = { baseline: baselineSide, untuned: untunedSide, winner }
    const names = ['baseline', 'untuned', 'winner'] as const
    const slices = { baseline: [] as Slice[], untuned: [] as Slice[], winner: [] as Slice[] }
    for (let round = 0; round < finalRounds; round++) {
      for (let turn = 0; turn < names.length; turn++) {
        signal?.throwIfAborted()
        const name = names[(turn + round) % names.length]!
        slices[name].push(await sides[name].measure())
      }
    }
    const scenarios = Object.keys(slices.winner[0]!.scenarios)
    const gain = (scenario: string, over: 'baseline' | 'untuned'): Interval => {
      const rate = (slice: Slice): number => slice.scenarios[scenario]!.textsPerSecond
      const logs = slices.winner.map((slice, i) => Math.log(rate(slice) / rate(slices[over][i]!)))
      const { estimate, low, high } = signedRankInterval(logs, 0.05)
      return { ratio: Math.exp(estimate), low: Math.exp(low), high: Math.exp(high) }
    }
    return {
      baseline: toSlice(slices.baseline, median),
      untuned: toSlice(slices.untuned, median),
      winner: toSlice(slices.winner, median),
      gains: scenarios.map((scenario) => ({
        scenario,
        overBaseline: gain(scenario, 'baseline'),
        overUntuned: gain(scenario, 'untuned'),
      })),
      expected: Object.fromEntries(
        scenarios.map((scenario) => [
          scenario,
          predictRound(slices.winner.map((slice) => slice.scenarios[scenario]!.textsPerSecond)),
        ]),
      ),
      rounds: finalRounds,
    }
  }

  async #write(entry: JournalEntry): Promise<void> {
    await this.#options.journal.append(entry)
    this.#options.onEvent?.({ kind: 'entry', entry })
  }
}

function isSame(a: Settings, b: Settings): boolean {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]) as Set<keyof Settings>
  return [...keys].every((key) => a[key] === b[key])
}
