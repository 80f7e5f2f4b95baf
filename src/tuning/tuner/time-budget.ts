/** The time of a run: what is left of it, and how much of that one knob may take. */
import type { Stage, StageKnob } from './search-space.ts'

export interface TimeBudgetOptions {
  readonly stages: readonly Stage[]
  /** Of the whole run, the comparison at the end included. */
  readonly budgetMs: number
  readonly finalRounds: number
  /** Whether a plain loop is timed at the end, too. */
  readonly hasPlainLoop: boolean
  /** Whether each change may be tried alone after the end. */
  readonly isolates: boolean
  readonly nowMs: () => number
}

/** Of the time, kept for the isolation after a missed target. */
const isolationShare = 0.15
/** Of the time, kept for what follows the search: the default beside what was found, and what was found on the default. */
const defaultShare = 0.1
/** Log ratio of a gain that is worth the time to show it. */
const promising = 0.03

export class TimeBudget {
  readonly #options: TimeBudgetOptions
  readonly #startedMs: number
  /** Of the knobs that have not had their turn, the one of now included. */
  #weightLeft: number
  /** The quickest start of a configuration so far: the first of a model exports and builds what the others find. */
  #startMs = Infinity
  /** To measure a configuration once. */
  sliceMs = 0
  #isSearching = true

  constructor(options: TimeBudgetOptions) {
    this.#options = options
    this.#startedMs = options.nowMs()
    const knobs = options.stages.flatMap((stage) => stage.knobs)
    this.#weightLeft = knobs.reduce((sum, knob) => sum + weigh(knob), 0)
  }

  noteStart(durationMs: number): void {
    this.#startMs = Math.min(this.#startMs, durationMs)
  }

  /** Had its turn, or will have none. */
  passKnob(knob: StageKnob): void {
    this.#weightLeft -= weigh(knob)
  }

  isOver(): boolean {
    return this.#options.nowMs() > this.#startedMs + this.#options.budgetMs
  }

  /** From here on what was kept for after the search may be used. */
  endSearch(): void {
    this.#isSearching = false
  }

  /** Without what comes after. */
  leftMs(): number {
    const { budgetMs, isolates, nowMs } = this.#options
    if (budgetMs === Infinity) return Infinity
    const share = (isolates ? isolationShare : 0) + (this.#isSearching ? defaultShare : 0)
    return (1 - share) * budgetMs - this.#finalMs() - (nowMs() - this.#startedMs)
  }

  /** On a noisy machine one knob could take all the time: each gets its share of what is left, and what looks like a gain may
   * take more, to be shown or not.
   * @returns whether that is used up, asked with the log ratio of now */
  deadlineFor(knob: StageKnob): (estimate: number) => boolean {
    return this.#deadline(weigh(knob) / Math.max(weigh(knob), this.#weightLeft))
  }

  /** Half of what is left: the rest is for what was found, on the default. */
  deadlineForDefault(): (estimate: number) => boolean {
    return this.#deadline(0.5)
  }

  #deadline(share: number): (estimate: number) => boolean {
    const { nowMs } = this.#options
    const leftMs = Math.max(0, this.leftMs())
    const startMs = nowMs()
    return (estimate) => {
      const patience = estimate > promising ? 3 : 1
      return nowMs() - startMs > Math.min(1, patience * share) * leftMs
    }
  }

  /** Of the comparison at the end; baseline, untuned and plain loop are to be started for it. */
  #finalMs(): number {
    const { finalRounds, hasPlainLoop } = this.#options
    const startMs = this.#startMs === Infinity ? 0 : this.#startMs
    const plain = hasPlainLoop ? 1 : 0
    // A plain loop has one scenario, of three or more.
    return (2 + plain) * startMs + (3 + plain / 3) * finalRounds * this.sliceMs
  }
}

/** Engine and precision decide on more than all other knobs together, and what they are decides which of those there are. */
function weigh({ key }: StageKnob): number {
  return key === 'engine' || key === 'precision' ? 3 : 1
}
