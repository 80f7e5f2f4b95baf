/** When a batch closes and what goes into it. An idle engine gets work at once; a busy one lets it collect. */
import type { Clock } from './clock.ts'
import type { QueuedInput, RequestQueue } from './queue.ts'

export interface BatchLimits {
  readonly maxBatchSize: number
  /** Bound of batch size x longest sequence. */
  readonly maxBatchTokens: number
  /** Ceiling of the wait for a fuller batch once a place in the engine is free but another batch still runs. */
  readonly batchTimeoutMs: number
  /** Batches in the engine at once. */
  readonly concurrency: number
}

/** Share of a batch that may be padding, and tokens that are always allowed: a batch of its own costs more than
 * padding 64 tokens away (MiniLM on two cores: 1.2 ms for an empty pass, 1.1 ms for 64 tokens). */
const maxPaddingRatio = 0.2
const freePaddingTokens = 64

export class Batcher {
  readonly #queue: RequestQueue
  readonly #limits: BatchLimits
  readonly #clock: Clock
  readonly #run: (batch: readonly QueuedInput[]) => Promise<void>
  #running = 0
  #cancelTimer: (() => void) | undefined
  #scheduled = false

  /** @param run processes a batch and never rejects */
  constructor(
    queue: RequestQueue,
    limits: BatchLimits,
    clock: Clock,
    run: (batch: readonly QueuedInput[]) => Promise<void>,
  ) {
    this.#queue = queue
    this.#limits = limits
    this.#clock = clock
    this.#run = run
    // One look at the queue per turn of the event loop: requests parsed in the same turn share a batch.
    queue.onArrival = () => {
      if (this.#scheduled) return
      this.#scheduled = true
      queueMicrotask(() => {
        this.#scheduled = false
        this.#dispatch()
      })
    }
  }

  #dispatch(): void {
    while (this.#running < this.#limits.concurrency) {
      const batch = selectBatch(this.#queue.waiting, this.#limits)
      if (batch.length === 0) return
      const isFull = batch.length < this.#queue.waiting.length || batch.length === this.#limits.maxBatchSize
      const waitedMs = this.#clock.nowMs() - this.#queue.waiting[0]!.arrivalMs
      if (this.#running > 0 && !isFull && waitedMs < this.#limits.batchTimeoutMs) {
        this.#cancelTimer ??= this.#clock.schedule(this.#limits.batchTimeoutMs - waitedMs, () => {
          this.#cancelTimer = undefined
          this.#dispatch()
        })
        return
      }
      this.#queue.remove(new Set(batch))
      this.#running++
      void this.#run(batch).finally(() => {
        this.#running--
        this.#dispatch()
      })
    }
  }
}

/** The oldest input and its neighbours in length, as many as the limits take. */
export function selectBatch(
  waiting: readonly QueuedInput[],
  limits: Pick<BatchLimits, 'maxBatchSize' | 'maxBatchTokens'>,
): QueuedInput[] {
  const oldest = waiting[0]
  if (oldest === undefined) return []
  const byLength = waiting
    .filter((input) => input.output === oldest.output)
    .toSorted((a, b) => a.ids.length - b.ids.length)
  let low = byLength.indexOf(oldest)
  let high = low
  let tokens = oldest.ids.length
  const fits = (from: number, to: number, added: QueuedInput): boolean => {
    const padded = (to - from + 1) * byLength[to]!.ids.length
    const padding = padded - tokens - added.ids.length
    return padded <= limits.maxBatchTokens && padding <= freePaddingTokens + maxPaddingRatio * padded
  }
  while (high - low + 1 < limits.maxBatchSize) {
    const shorter = byLength[low - 1]
    const longer = byLength[high + 1]
    const takesShorter = shorter !== undefined && fits(low - 1, high, shorter)
    const takesLonger = longer !== undefined && fits(low, high + 1, longer)
    if (!takesShorter && !takesLonger) break
    // The side that is closer in length wastes less.
    const gapBelow = takesShorter ? byLength[low]!.ids.length - shorter.ids.length : Infinity
    const gapAbove = takesLonger ? longer.ids.length - byLength[high]!.ids.length : Infinity
    const added = gapBelow <= gapAbove ? byLength[--low]! : byLength[++high]!
    tokens += added.ids.length
  }
  return byLength.slice(low, high + 1)
}
