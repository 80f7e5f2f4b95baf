/** The whole run: baseline, one change at a time, what helps stays. */
import { EmbedError, toReason } from '../../errors.ts'
import { median } from '../measure/percentile.ts'
import { descend } from './descend.ts'
import { type MemoryLimits, runExperiment } from './experiment.ts'
import { compareConfigurations, type FinalConfigurations } from './final-sides.ts'
import { isolate } from './isolate.ts'
import type { ExperimentEntry, FinalComparison, Journal, JournalEntry, RunFacts } from './journal.ts'
import { type KnobValue, type Stage, type StageKnob, knobsFor, toChange } from './search-space.ts'
import { type Side, type SideInfo, type Settings, type Slice, type StartSide, toSlice } from './side.ts'
import { TimeBudget } from './time-budget.ts'
import type { TunedKey } from './tuned-config.ts'
import type { TunedProfile, WinnerProfile } from './winner-profile.ts'

export interface TuneOptions extends FinalConfigurations {
  readonly key: TunedKey
  readonly stages: readonly Stage[]
  readonly facts: RunFacts
  readonly journal: Journal
  /** Entries of the run to go on with; empty for a new one. */
  readonly earlier: readonly JournalEntry[]
  readonly memoryLimits?: MemoryLimits | undefined
  readonly maxPairs?: number | undefined
  readonly maxTrials?: number | undefined
  /** Of the whole run, the comparison at the end included; what is under way is finished. */
  readonly budgetMs?: number | undefined
  /** Rounds of the comparison at the end. Default 12. */
  readonly finalRounds?: number
  /** Then each change that was kept is tried alone on the baseline, to find which one disappoints. */
  readonly isTargetMissed?: (final: FinalComparison) => boolean
  /** Of baseline and winner, for the report; one that fails is told there. */
  readonly profile?: (settings: Settings) => Promise<WinnerProfile>
  readonly nowMs?: () => number
  readonly signal?: AbortSignal | undefined
  readonly onEvent?: (event: TuneEvent) => void
}

export type TuneEvent =
  | { readonly kind: 'baseline' }
  | { readonly kind: 'profile'; readonly side: 'baseline' | 'winner' }
  | { readonly kind: 'isolate'; readonly change: Settings }
  | { readonly kind: 'final'; readonly round: number; readonly ofRounds: number }
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
  readonly #time: TimeBudget
  readonly #nowMs: () => number
  readonly #earlier: ExperimentEntry[]
  #incumbent: { id: string; settings: Settings; side: Side | undefined; isUntuned: boolean }
  #trials = 0
  /** One change each, in the order in which they were kept. */
  readonly #kept: Settings[] = []
  #stoppedBy: string | undefined

  constructor(options: TuneOptions) {
    this.#options = options
    this.#nowMs = options.nowMs ?? (() => performance.now())
    this.#earlier = options.earlier.filter((entry) => entry.kind === 'experiment')
    this.#incumbent = { id: 'baseline', settings: options.baseline, side: undefined, isUntuned: false }
    this.#time = new TimeBudget({
      stages: options.stages,
      budgetMs: options.budgetMs ?? Infinity,
      finalRounds: this.#finalRounds,
      hasPlainLoop: options.startPlainLoop !== undefined,
      isolates: options.isTargetMissed !== undefined,
      nowMs: this.#nowMs,
    })
  }

  get #finalRounds(): number {
    return this.#options.finalRounds ?? 12
  }

  async run(): Promise<TuneResult> {
    const { earlier, key, stages, facts } = this.#options
    const date = new Date().toISOString()
    if (earlier.length === 0) {
      const names = stages.map(({ name }) => name)
      await this.#write({ kind: 'begin', version: 1, date, key, stages: names, facts })
    } else await this.#write({ kind: 'resume', date })
    try {
      this.#time.sliceMs = (
        earlier.find((entry) => entry.kind === 'baseline') ?? (await this.#measureBaseline())
      ).sliceMs
      for (const stage of stages) await this.#runStage(stage)
      await this.#goOnFromDefault()
      const final = await this.#compareAtEnd()
      const { id, settings } =
        final.instead === undefined ? this.#incumbent : { id: 'untuned', settings: this.#options.untuned }
      await this.#write({
        kind: 'end',
        date: new Date().toISOString(),
        incumbentId: id,
        settings,
        final,
        ...(this.#stoppedBy === undefined ? {} : { stoppedBy: this.#stoppedBy }),
      })
      await this.#profile(settings)
      if (this.#options.isTargetMissed?.(final) === true) await this.#isolate()
      return { incumbentId: id, settings, final }
    } catch (error) {
      this.#options.signal?.throwIfAborted()
      if (error instanceof EmbedError) throw error
      // A side's words: it runs elsewhere, so its error's class did not come along.
      throw new EmbedError(
        'TUNING_FAILED',
        { reason: `${this.#incumbent.id}: ${toReason(error)}` },
        { cause: error },
      )
    } finally {
      await this.#incumbent.side?.[Symbol.asyncDispose]()
    }
  }

  async #measureBaseline(): Promise<BaselineEntry> {
    this.#options.onEvent?.({ kind: 'baseline' })
    const side = await this.#side()
    const quality = await side.assess()
    if (!quality.passed) {
      const failed = quality.checks.filter((check) => !check.passed).map(({ name }) => name)
      throw new EmbedError('TUNING_FAILED', {
        reason: `the baseline fails its own quality check: ${failed.join(', ')}`,
      })
    }
    const measuredMs = this.#nowMs()
    const slice = await this.#measure(side, baselineRounds)
    const entry: BaselineEntry = {
      kind: 'baseline',
      settings: this.#incumbent.settings,
      info: side.info,
      slice,
      quality,
      sliceMs: (this.#nowMs() - measuredMs) / baselineRounds,
    }
    await this.#write(entry)
    return entry
  }

  async #runStage(stage: Stage): Promise<void> {
    const found = knobsFor(stage, this.#incumbent.settings)
    const missing = stage.knobs.filter(({ key }) => !found.some((knob) => knob.key === key))
    for (const knob of missing) this.#time.passKnob(knob)
    if (found.length === 0) {
      await this.#skip(stage.name, stage.skipped ?? this.#describeMissing(stage))
      return
    }
    for (const knob of found) {
      const current = this.#incumbent.settings[knob.key] ?? knob.byDefault
      await descend(knob, current, (value) => this.#try(stage, knob, value))
      this.#time.passKnob(knob)
    }
  }

  async #skip(stage: string, reason: string): Promise<void> {
    const isKnown = this.#options.earlier.some((entry) => entry.kind === 'skip' && entry.stage === stage)
    if (!isKnown) await this.#write({ kind: 'skip', stage, reason })
  }

  #describeMissing({ knobs }: Stage): string {
    const { engine, precision } = this.#incumbent.settings
    if (knobs.every(({ key }) => key === 'precision')) return `the engine ${engine} has ${precision} only`
    return `the engine ${engine} has no ${knobs.map(({ key }) => key).join(', ')}`
  }

  /** The search began at the plain service, and may end below what serve takes by itself: most of all in little time. Then that is
   * the incumbent, and what the search had kept is tried on it. */
  async #goOnFromDefault(): Promise<void> {
    const { stages, baseline, untuned, untunedConditions } = this.#options
    const found = this.#incumbent.settings
    this.#time.endSearch()
    const isKept = await this.#run({
      stage: defaultsStage,
      change: untuned,
      settings: { ...untuned, ...untunedConditions },
      // What it is from here on, without the conditions: what serve chose must not change with the next value.
      toKept: ({ engine, precision }) => ({ ...untuned, engine, precision }) as Settings,
      isOver: this.#time.deadlineForDefault(),
    })
    if (!isKept) return
    for (const stage of stages) {
      for (const knob of knobsFor(stage, this.#incumbent.settings)) {
        const value = found[knob.key]
        const current = this.#incumbent.settings[knob.key] ?? knob.byDefault
        if (value === undefined || value === baseline[knob.key] || value === current) continue
        await this.#try(stage, knob, value)
      }
    }
  }

  /** @returns whether it was kept */
  async #try(stage: Stage, knob: StageKnob, value: KnobValue): Promise<boolean> {
    const change = toChange(knob, value, this.#incumbent.settings)
    const settings = { ...this.#incumbent.settings, ...change }
    return this.#run({ stage: stage.name, change, settings, isOver: this.#time.deadlineFor(knob) })
  }

  /** @returns whether it was kept; false without trying once the budget is spent */
  async #run({ stage, change, settings, toKept, isOver }: Trial): Promise<boolean> {
    const { signal, memoryLimits, maxPairs, onEvent } = this.#options
    signal?.throwIfAborted()
    const known = this.#findEarlier(stage, change)
    if (known !== undefined) {
      this.#trials++
      if (known.result.outcome === 'kept') {
        this.#noteKept(stage, change)
        await this.#replaceIncumbent(stage, known.id, known.settings, undefined)
      }
      return known.result.outcome === 'kept'
    }
    if (this.#isSpent()) return false
    this.#trials++
    onEvent?.({ kind: 'try', stage, change, trial: this.#trials })
    const incumbentId = this.#incumbent.id
    const startedMs = this.#nowMs()
    const incumbent = await this.#side()
    const { result, side } = await runExperiment({
      incumbent,
      start: this.#start,
      settings,
      memoryLimits,
      maxPairs,
      isOver,
      signal,
    })
    const id = `e${this.#trials}`
    const durationMs = this.#nowMs() - startedMs
    const kept = side === undefined ? settings : (toKept?.(side.info) ?? settings)
    // The side belongs to the tuner from here on, whatever becomes of the journal.
    if (side !== undefined) {
      this.#noteKept(stage, change)
      await this.#replaceIncumbent(stage, id, kept, side)
    }
    await this.#write({
      kind: 'experiment',
      id,
      incumbentId,
      stage,
      change,
      settings: kept,
      durationMs,
      result,
    })
    return result.outcome === 'kept'
  }

  #noteKept(stage: string, change: Settings): void {
    if (stage !== defaultsStage && !this.#kept.some((each) => isSame(each, change))) this.#kept.push(change)
  }

  /** The same change of the same incumbent: what an earlier run of this journal found holds. */
  #findEarlier(stage: string, change: Settings): ExperimentEntry | undefined {
    return this.#earlier.find(
      (entry) =>
        entry.incumbentId === this.#incumbent.id && entry.stage === stage && isSame(entry.change, change),
    )
  }

  readonly #start: StartSide = async (settings) => {
    const startedMs = this.#nowMs()
    const side = await this.#options.start(settings)
    this.#time.noteStart(this.#nowMs() - startedMs)
    return side
  }

  #isSpent(): boolean {
    const { maxTrials = Infinity, budgetMs = Infinity } = this.#options
    const isTried = this.#trials >= maxTrials
    const isLate = this.#time.leftMs() <= 0
    if (isTried) this.#stoppedBy = `the ${maxTrials} trials allowed`
    else if (isLate) this.#stoppedBy = `the ${Number((budgetMs / 60_000).toFixed(1))} minutes allowed`
    return isTried || isLate
  }

  async #side(): Promise<Side> {
    this.#incumbent.side ??= await this.#start(this.#incumbent.settings)
    return this.#incumbent.side
  }

  async #replaceIncumbent(
    stage: string,
    id: string,
    settings: Settings,
    side: Side | undefined,
  ): Promise<void> {
    const old = this.#incumbent.side
    this.#incumbent = { id, settings, side, isUntuned: stage === defaultsStage }
    await old?.[Symbol.asyncDispose]()
  }

  async #measure(side: Side, rounds: number): Promise<Slice> {
    const slices: Slice[] = []
    for (let round = 0; round < rounds; round++) {
      this.#options.signal?.throwIfAborted()
      slices.push(await side.measure({ all: true }))
    }
    return toSlice(slices, median)
  }

  async #compareAtEnd(): Promise<FinalComparison> {
    const { onEvent } = this.#options
    const rounds = this.#finalRounds
    onEvent?.({ kind: 'final', round: 0, ofRounds: rounds })
    return compareConfigurations(await this.#side(), this.#options, {
      rounds,
      isUntuned: this.#incumbent.isUntuned,
      signal: this.#options.signal,
      onRound: (round, ofRounds) => onEvent?.({ kind: 'final', round, ofRounds }),
    })
  }

  async #profile(settings: Settings): Promise<void> {
    const { profile, baseline, signal, onEvent } = this.#options
    if (profile === undefined) return
    const attempt = async (side: 'baseline' | 'winner', of: Settings): Promise<TunedProfile> => {
      onEvent?.({ kind: 'profile', side })
      const result = await profile(of).catch((error: unknown) => ({ missing: toReason(error) }))
      signal?.throwIfAborted()
      return result
    }
    const before = await attempt('baseline', baseline)
    await this.#write({
      kind: 'profile',
      profile: isSame(settings, baseline) ? before : await attempt('winner', settings),
      baseline: before,
    })
  }

  async #isolate(): Promise<void> {
    const { start, baseline, signal, onEvent } = this.#options
    const changes = this.#kept
    // One change alone was measured against the baseline already.
    if (changes.length < 2) return
    await using side = await start(baseline)
    const results = await isolate({
      changes,
      settings: baseline,
      baseline: side,
      start,
      signal,
      isOver: () => this.#time.isOver(),
      onChange: (change) => onEvent?.({ kind: 'isolate', change }),
    })
    await this.#write({ kind: 'isolation', results })
  }

  async #write(entry: JournalEntry): Promise<void> {
    await this.#options.journal.append(entry)
    this.#options.onEvent?.({ kind: 'entry', entry })
  }
}

/** Not one of the search's: see goOnFromDefault. */
const defaultsStage = 'defaults'

interface Trial {
  readonly stage: string
  readonly change: Settings
  /** To start with. */
  readonly settings: Settings
  /** What is kept of it. Default: the settings. */
  readonly toKept?: (info: SideInfo) => Settings
  readonly isOver: (estimate: number) => boolean
}

type BaselineEntry = Extract<JournalEntry, { kind: 'baseline' }>
const baselineRounds = 5
function isSame(a: Settings, b: Settings): boolean {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]) as Set<keyof Settings>
  return [...keys].every((key) => a[key] === b[key])
}
