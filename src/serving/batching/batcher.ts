/** When a batch closes. An idle engine gets work at once; a busy one lets it collect as long as that pays. */
import { ArrivalRate } from './arrival-rate.ts'
import { selectBatch } from './batch-selection.ts'
import type { Clock } from './clock.ts'
import type { BatchCostModel } from './cost-model.ts'
import type { BatchOutcome } from './processor.ts'
import type { QueuedInput, RequestQueue } from './queue.ts'

export interface BatchLimits {
  readonly maxBatchSize: number
  /** Bound of batch size x longest sequence. */
  readonly maxBatchTokens: number
  /** Ceiling of the wait for a fuller batch once a place in the engine is free but another batch still runs. */
  readonly batchTimeoutMs: number
  /** Wait only where what is expected meanwhile saves more than the wait costs; false waits up to the ceiling every time. */
  readonly adaptiveBatching: boolean
  /** Time from arrival to answer that batches are kept small enough for. */
  readonly targetP95Ms?: number | undefined
  /** Batches in the engine at once. */
  readonly concurrency: number
}

/** A batch may take this share of the time that a request has; the rest is for its wait. */
const batchShareOfTarget = 0.5
/** A fixed cost of this share is worth waiting for more inputs, or leaving a place in the engine empty. */
const wastefulShare = 0.2
/** While priority requests come, batches of others end at this share, so that a place is free soon. */
const urgentShare = 0.25
const urgentMemoryMs = 1000

/** Takes what the queue admits and runs it in batches, for as long as the queue lives.
 * @param costs learns from the batches
 * @param run processes a batch and never rejects; `exclusive` when nothing else will run meanwhile */
export function startBatching(
  queue: RequestQueue,
  limits: BatchLimits,
  clock: Clock,
  costs: BatchCostModel,
  run: (batch: readonly QueuedInput[], exclusive: boolean) => Promise<BatchOutcome>,
): void {
  const { concurrency, targetP95Ms = Infinity } = limits
  const arrivals = new ArrivalRate()
  let running = 0
  let isExclusive = false
  let isScheduled = false
  let lastUrgentMs = -Infinity
  let cancelWake: (() => void) | undefined
  /** What memory is known to hold. */
  let safeTokens = limits.maxBatchTokens

  const dispatch = (): void => {
    // An even share for each place in the engine, unless that makes batches too small to be efficient.
    const share = Math.ceil(queue.waitingTokens / concurrency)
    const isIdle = running === 0
    for (;;) {
      if (running === concurrency || isExclusive) return
      const line = queue.nextLine()
      if (line === undefined) return
      const isShared = concurrency > 1 && (isIdle || limits.adaptiveBatching)
      const evenTokens = isShared ? Math.max(share, costs.efficientTokens(wastefulShare)) : Infinity
      const enoughTokens = Math.min(evenTokens, urgentTokens(line.oldest!))
      const maxBatchTokens = Math.min(safeTokens, costs.tokensWithin(targetP95Ms * batchShareOfTarget))
      const batch = selectBatch(line, { maxBatchSize: limits.maxBatchSize, maxBatchTokens, enoughTokens })
      // With less than one input a place nobody else is in want of a place: the batch may have the whole engine.
      const isAlone = running === 0 && batch.length < concurrency && queue.waitingCount === batch.length
      const waitMs = isIdle || batch.length < line.size ? 0 : worthwhileWaitMs(batch)
      if (waitMs > 0) {
        cancelWake ??= clock.schedule(waitMs, () => {
          cancelWake = undefined
          dispatch()
        })
        return
      }
      for (const input of batch) line.delete(input)
      void start(batch, isAlone)
    }
  }

  const start = async (batch: readonly QueuedInput[], exclusive: boolean): Promise<void> => {
    running++
    isExclusive = exclusive
    const { tokens, inferenceMs, outOfMemoryTokens = Infinity } = await run(batch, exclusive)
    running--
    if (exclusive) isExclusive = false
    else if (inferenceMs !== undefined) costs.observe(tokens, inferenceMs)
    safeTokens = Math.min(safeTokens, Math.max(1, Math.floor(outOfMemoryTokens / 2)))
    dispatch()
  }

  /** Most tokens of a batch that a priority request may have to wait for. */
  const urgentTokens = ({ priority }: QueuedInput): number =>
    priority === 'high' || !costs.isKnown || clock.nowMs() - lastUrgentMs > urgentMemoryMs
      ? Infinity
      : Math.max(1, costs.efficientTokens(urgentShare))

  /** How long a batch that all waiting inputs fit in should wait for more. */
  const worthwhileWaitMs = (batch: readonly QueuedInput[]): number => {
    const oldest = batch[0]!
    if (oldest.priority === 'high' || batch.length === limits.maxBatchSize) return 0
    const nowMs = clock.nowMs()
    const tokens = batch.reduce((sum, input) => sum + input.ids.length, 0)
    const waitedMs = nowMs - oldest.arrivalMs
    const slackMs = targetP95Ms - waitedMs - costs.predictMs(tokens)
    const leftMs = Math.min(limits.batchTimeoutMs - waitedMs, slackMs)
    if (!limits.adaptiveBatching) return leftMs
    const isEfficient = tokens >= costs.efficientTokens(wastefulShare)
    const ratePerMs = arrivals.perMs(nowMs)
    // Each that joins saves a batch's fixed cost, and the place stands empty meanwhile: where the wait looked at nothing but
    // whether one would come, four clients of two streams had 8 % fewer texts/s (MiniLM, two cores).
    const pays = ratePerMs * costs.fixedMs > 1 && ratePerMs * leftMs >= 1
    return isEfficient || !pays ? 0 : leftMs
  }

  queue.onArrival = (inputs, priority) => {
    const nowMs = clock.nowMs()
    arrivals.note(inputs, nowMs)
    if (priority === 'high') lastUrgentMs = nowMs
    if (isScheduled) return
    isScheduled = true
    clock.defer(() => {
      isScheduled = false
      dispatch()
    })
  }
}
