import * as fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { ArithmeticEngine } from '../../../test/fakes/arithmetic-engine.ts'
import { VirtualClock, settleMicrotasks } from '../../../test/fakes/virtual-clock.ts'
import { EmbedError } from '../../errors.ts'
import { type BatchLimits, selectBatch, startBatching } from './batcher.ts'
import { packBatch } from './packed-batch.ts'
import { processBatch } from './processor.ts'
import { type AdmitOptions, type AdmittedResult, type QueuedInput, RequestQueue } from './queue.ts'

const limits = {
  maxQueuedRequests: 4,
  maxQueuedTokens: 1000,
  maxBatchSize: 4,
  maxBatchTokens: 64,
  batchTimeoutMs: 5,
  concurrency: 1,
}

let clock: VirtualClock
let engine: ArithmeticEngine
let queue: RequestQueue

function start(changes: Partial<typeof limits> = {}): void {
  const all = { ...limits, ...changes }
  clock = new VirtualClock()
  engine = new ArithmeticEngine(clock, (lengths) => 10 + lengths.length)
  queue = new RequestQueue(all, clock)
  startBatching(queue, all, clock, (batch) => processBatch(engine, batch, clock))
}

function sequence(length: number, id = 1): Int32Array {
  return new Int32Array(length).fill(id)
}

function admit(lengths: readonly number[], options: Partial<AdmitOptions> = {}): Promise<AdmittedResult> {
  const result = queue.admit(
    lengths.map((length) => sequence(length)),
    { timeoutMs: 10_000, ...options },
  )
  result.catch(() => {})
  return result
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'resolved',
    (error: unknown) => (error instanceof EmbedError ? error.code : String(error)),
  )

beforeEach(() => start())

describe('batching', () => {
  it('dispatches at once when the engine is idle', async () => {
    const result = admit([3])
    await settleMicrotasks()
    expect(engine.batches).toEqual([[3]])
    await clock.advance(11)
    const { rows, queueMs, inferenceMs } = await result
    expect(rows).toEqual([Float32Array.of(3, 3)])
    expect([queueMs, inferenceMs]).toEqual([0, 11])
  })

  it('collects while the engine is busy and runs what waits as one batch', async () => {
    const first = admit([2])
    await settleMicrotasks()
    const others = [admit([2]), admit([2]), admit([2])]
    await clock.advance(11)
    expect(engine.batches).toEqual([[2], [2, 2, 2]])
    await clock.advance(13)
    await Promise.all([first, ...others])
  })

  it('gives results in the order of the inputs whatever the order of the lengths', async () => {
    const result = queue.admit([sequence(9, 5), sequence(1, 7), sequence(4, 2)], { timeoutMs: 1000 })
    await clock.advance(200)
    expect((await result).rows.map((row) => [...row])).toEqual([
      [45, 9],
      [7, 1],
      [8, 4],
    ])
  })

  it('splits a list that is larger than a batch', async () => {
    const result = admit(Array.from({ length: 10 }, () => 2))
    await clock.advance(1000)
    expect((await result).rows).toHaveLength(10)
    expect(engine.batches.map((batch) => batch.length)).toEqual([4, 4, 2])
  })

  it('waits at most the timeout for a fuller batch when a second place in the engine is free', async () => {
    start({ concurrency: 2 })
    void admit([2])
    await settleMicrotasks()
    void admit([2])
    await clock.advance(4)
    expect(engine.batches).toEqual([[2]])
    await clock.advance(1)
    expect(engine.batches).toEqual([[2], [2]])
    await clock.advance(100)
  })

  it('runs tokens and pooled output in batches of their own', async () => {
    const pooled = admit([2])
    const tokens = admit([3], { output: 'tokens' })
    await clock.advance(100)
    expect(engine.batches).toEqual([[2], [3]])
    expect((await pooled).rows[0]).toEqual(Float32Array.of(2, 2))
    expect((await tokens).rows[0]).toEqual(Float32Array.of(1, 1, 1, 1, 1, 1))
  })
})

describe('admission', () => {
  it('refuses whole when the tokens do not fit, and tells when to retry', async () => {
    void admit([600])
    const refused = admit([300, 200])
    await expect(refused).rejects.toMatchObject({
      code: 'QUEUE_FULL',
      details: { queuedTokens: 600, maxQueuedTokens: 1000 },
    })
    expect(queue.waiting.length + engine.batches.length).toBeLessThanOrEqual(1)
    await clock.advance(1000)
  })

  it('refuses one request too many', async () => {
    for (let i = 0; i < 4; i++) void admit([1])
    expect(await codeOf(admit([1]))).toBe('QUEUE_FULL')
    await clock.advance(100)
    const later = admit([1])
    await clock.advance(100)
    expect(await codeOf(later)).toBe('resolved')
  })

  it('says that a request can never fit, rather than to retry', async () => {
    expect(await codeOf(admit([1001]))).toBe('REQUEST_TOO_LARGE')
  })

  it('frees the place of a request that is cancelled or late', async () => {
    void admit([2])
    await settleMicrotasks()
    const abort = new AbortController()
    const cancelled = admit([3], { signal: abort.signal })
    const late = admit([4], { timeoutMs: 5 })
    abort.abort()
    expect(await codeOf(cancelled)).toBe('REQUEST_CANCELLED')
    expect(queue.waiting.map((input) => input.ids.length)).toEqual([4])
    await clock.advance(5)
    expect(await codeOf(late)).toBe('REQUEST_TIMEOUT')
    expect(queue.waiting).toEqual([])
    await clock.advance(100)
    expect(engine.batches).toEqual([[2]])
    expect([queue.requestCount, queue.tokenCount, clock.pendingTimers]).toEqual([0, 0, 0])
  })

  it('refuses a request that is cancelled before it came and any after close', async () => {
    expect(await codeOf(admit([1], { signal: AbortSignal.abort() }))).toBe('REQUEST_CANCELLED')
    const accepted = admit([1])
    queue.close()
    expect(await codeOf(admit([1]))).toBe('SHUTTING_DOWN')
    const idle = queue.whenIdle()
    await clock.advance(100)
    await idle
    expect(await codeOf(accepted)).toBe('resolved')
  })
})

describe('errors of the engine', () => {
  it('fails only the guilty input: the batch is bisected', async () => {
    const good = [admit([2]), admit([2])]
    const bad = queue.admit([sequence(2, ArithmeticEngine.poisonId)], { timeoutMs: 10_000 })
    bad.catch(() => {})
    good.push(admit([2]))
    await clock.advance(1000)
    expect(await codeOf(bad)).toBe('ENGINE_FAILED')
    expect(await Promise.all(good.map(codeOf))).toEqual(['resolved', 'resolved', 'resolved'])
  })

  it.each([
    ['gives', ArithmeticEngine.nanId],
    ['refuses', ArithmeticEngine.refusedNanId],
  ])('never lets out NaN that the engine %s, and names the input', async (_how, id) => {
    const mixed = queue.admit([sequence(2), sequence(2, id)], { timeoutMs: 10_000 })
    mixed.catch(() => {})
    const good = admit([2])
    await clock.advance(1000)
    await expect(mixed).rejects.toMatchObject({ code: 'NON_FINITE_OUTPUT', details: { index: 1 } })
    expect(await codeOf(good)).toBe('resolved')
  })
})

describe('selectBatch', () => {
  const inputs = fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 60 })
  const toWaiting = (lengths: readonly number[]): QueuedInput[] =>
    lengths.map((length, index) => ({
      index,
      ids: sequence(length),
      output: 'pooled',
      arrivalMs: index,
      isLive: () => true,
      resolve: () => {},
      reject: () => {},
    }))
  const batchLimits: Pick<BatchLimits, 'maxBatchSize' | 'maxBatchTokens'> = {
    maxBatchSize: 8,
    maxBatchTokens: 128,
  }

  it('always takes the oldest, keeps both limits and bounds the padding', () => {
    fc.assert(
      fc.property(inputs, (lengths) => {
        const waiting = toWaiting(lengths)
        const batch = selectBatch(waiting, batchLimits)
        const longest = Math.max(...batch.map((input) => input.ids.length))
        const tokens = batch.reduce((sum, input) => sum + input.ids.length, 0)
        const padded = longest * batch.length
        expect(batch).toContain(waiting[0])
        expect(new Set(batch).size).toBe(batch.length)
        expect(batch.length).toBeLessThanOrEqual(8)
        expect(padded).toBeLessThanOrEqual(Math.max(128, longest))
        expect(padded - tokens).toBeLessThanOrEqual(64 + 0.2 * padded)
      }),
    )
  })

  it('leaves a long text to a batch of its own', () => {
    const batch = selectBatch(toWaiting([4, 64, 4, 5]), { maxBatchSize: 8, maxBatchTokens: 4096 })
    expect(batch.map((input) => input.ids.length)).toEqual([4, 4, 5])
  })
})

describe('packBatch', () => {
  it('lays any sequences end to end', () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat(30_000), { minLength: 1 }), { minLength: 1 }), (lists) => {
        const { inputIds, cumulativeLengths } = packBatch(lists.map((list) => Int32Array.from(list)))
        const back = lists.map((_, i) => [
          ...inputIds.subarray(cumulativeLengths[i], cumulativeLengths[i + 1]),
        ])
        expect(back).toEqual(lists)
        expect(cumulativeLengths.at(-1)).toBe(inputIds.length)
      }),
    )
  })
})
