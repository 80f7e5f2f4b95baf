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

/** Takes what the queue admits and runs it in batches, for as long as the queue lives.
 * @param run processes a batch and never rejects */
export function startBatching(
  queue: RequestQueue,
  limits: BatchLimits,
  clock: Clock,
  run: (batch: readonly QueuedInput[]) => Promise<void>,
): void {
  let running = 0
  let isScheduled = false
  let isTimerSet = false

  const dispatch = (): void => {
    while (running < limits.concurrency) {
      const batch = selectBatch(queue.waiting, limits)
      if (batch.length === 0) return
      const isFull = batch.length < queue.waiting.length || batch.length === limits.maxBatchSize
      const waitedMs = clock.nowMs() - queue.waiting[0]!.arrivalMs
      if (running > 0 && !isFull && waitedMs < limits.batchTimeoutMs) {
        if (!isTimerSet) wakeIn(limits.batchTimeoutMs - waitedMs)
        return
      }
      queue.remove(new Set(batch))
      running++
      void run(batch).finally(() => {
        running--
        dispatch()
      })
    }
  }
  const wakeIn = (delayMs: number): void => {
    isTimerSet = true
    clock.schedule(delayMs, () => {
      isTimerSet = false
      dispatch()
    })
  }
  // One look at the queue per turn of the event loop: requests parsed in the same turn share a batch.
  queue.onArrival = () => {
    if (isScheduled) return
    isScheduled = true
    queueMicrotask(() => {
      isScheduled = false
      dispatch()
    })
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
