/** Queue, batcher and processor on a virtual clock and an engine of plain arithmetic. */
import { EmbedError } from '../../src/errors.ts'
import { type BatchLimits, startBatching } from '../../src/serving/batching/batcher.ts'
import { BatchCostModel } from '../../src/serving/batching/cost-model.ts'
import { processBatch, type ProcessorOptions } from '../../src/serving/batching/processor.ts'
import {
  type AdmitOptions,
  type AdmittedResult,
  type QueuedInput,
  type QueueLimits,
  RequestQueue,
} from '../../src/serving/batching/queue.ts'
import { ArithmeticEngine } from './arithmetic-engine.ts'
import { VirtualClock } from './virtual-clock.ts'

export const defaultLimits: QueueLimits & BatchLimits = {
  maxQueuedRequests: 4,
  maxQueuedTokens: 1000,
  maxBatchSize: 4,
  maxBatchTokens: 64,
  batchTimeoutMs: 5,
  adaptiveBatching: false,
  priorityHeadStartMs: 1000,
  concurrency: 1,
}

export interface Batching {
  readonly clock: VirtualClock
  readonly engine: ArithmeticEngine
  readonly queue: RequestQueue
  readonly costs: BatchCostModel
  /** Sequences of these lengths. */
  readonly admit: (lengths: readonly number[], options?: Partial<AdmitOptions>) => Promise<AdmittedResult>
  readonly admitIds: (
    sequences: readonly Int32Array[],
    options?: Partial<AdmitOptions>,
  ) => Promise<AdmittedResult>
}

export function createBatching(
  changes: Partial<QueueLimits & BatchLimits> = {},
  durationMs: (lengths: readonly number[]) => number = (lengths) => 10 + lengths.length,
  processor: Partial<ProcessorOptions> = {},
): Batching {
  const limits = { ...defaultLimits, ...changes }
  const clock = new VirtualClock()
  const engine = new ArithmeticEngine(clock, durationMs)
  const costs = new BatchCostModel()
  const queue = new RequestQueue(limits, clock, (tokens) => costs.predictDrainMs(tokens, limits.concurrency))
  startBatching(queue, limits, clock, costs, (batch, exclusive) =>
    processBatch(batch, { engine, clock, ...processor }, exclusive),
  )
  const admitIds: Batching['admitIds'] = (sequences, options = {}) => {
    // As the pipeline does, with an estimate that is exact; a refusal comes as a rejection.
    const submit = async (): Promise<AdmittedResult> => {
      const tokens = sequences.reduce((sum, ids) => sum + ids.length, 0)
      const place = queue.reserve(tokens, options.priority)
      return place.submit(sequences, { timeoutMs: 10_000, ...options })
    }
    const result = submit()
    result.catch(() => {})
    return result
  }
  return {
    clock,
    engine,
    queue,
    costs,
    admitIds,
    admit: (lengths, options) =>
      admitIds(
        lengths.map((length) => sequence(length)),
        options,
      ),
  }
}

export function sequence(length: number, id = 1): Int32Array {
  return new Int32Array(length).fill(id)
}

/** 'resolved', or the code that it was rejected with. */
export function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'resolved',
    (error: unknown) => (error instanceof EmbedError ? error.code : String(error)),
  )
}

/** An input of its own request, as it waits. */
export function waitingInput(length: number, index: number): QueuedInput {
  return {
    index,
    ids: sequence(length),
    output: 'pooled',
    priority: 'normal',
    arrivalMs: index,
    isLive: () => true,
    resolve: () => {},
    reject: () => {},
  }
}
