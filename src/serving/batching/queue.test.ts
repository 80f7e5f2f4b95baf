import { describe, expect, it } from 'vitest'
import { codeOf, createBatching, sequence } from '../../../test/fakes/batching-harness.ts'
import { settleMicrotasks } from '../../../test/fakes/virtual-clock.ts'

describe('admission', () => {
  it('refuses whole when the tokens do not fit, and tells when to retry', async () => {
    const { admit, clock, engine, queue } = createBatching()
    void admit([600])
    await expect(admit([300, 200])).rejects.toMatchObject({
      code: 'QUEUE_FULL',
      details: { queuedTokens: 600, maxQueuedTokens: 1000, retryAfterMs: 100 },
    })
    expect(queue.waitingCount + engine.batches.length).toBe(1)
    await clock.advance(1000)
  })

  it('refuses one request too many', async () => {
    const { admit, clock } = createBatching()
    for (let i = 0; i < 4; i++) void admit([1])
    expect(await codeOf(admit([1]))).toBe('QUEUE_FULL')
    await clock.advance(100)
    const later = admit([1])
    await clock.advance(100)
    expect(await codeOf(later)).toBe('resolved')
  })

  it('says that a request can never fit, rather than to retry, also when the queue is full', async () => {
    const { admit, clock, queue } = createBatching()
    void admit([600])
    expect(await codeOf(admit([1001]))).toBe('REQUEST_TOO_LARGE')
    const place = queue.reserve(5000)
    expect(await codeOf(place.submit([sequence(1001)], { timeoutMs: 100 }))).toBe('REQUEST_TOO_LARGE')
    await clock.advance(1000)
    expect([queue.requestCount, queue.tokenCount]).toEqual([0, 0])
  })

  it('tells the time until half of the queue is done, at the speed of the last batches', async () => {
    const { admit, clock } = createBatching({ maxQueuedTokens: 2000, maxQueuedRequests: 50 }, (lengths) =>
      lengths.reduce((sum, length) => sum + length, 0),
    )
    for (let i = 0; i < 10; i++) {
      void admit([20])
      await clock.advance(20)
    }
    void admit([1000])
    void admit([1000])
    await expect(admit([1])).rejects.toMatchObject({ details: { retryAfterMs: 1000 } })
    await clock.advance(5000)
  })

  it('refuses what could not be answered within the objective, but never priority or on an idle server', async () => {
    const { admit, clock } = createBatching(
      { targetP95Ms: 100, maxQueuedRequests: 50, maxBatchTokens: 50, maxBatchSize: 1 },
      ([length]) => length!,
    )
    for (let i = 0; i < 10; i++) {
      void admit([10])
      await clock.advance(20)
    }
    const long = admit([300])
    await expect(admit([10])).rejects.toMatchObject({
      code: 'OVER_OBJECTIVE',
      details: { predictedMs: 310, targetP95Ms: 100, queuedRequests: 1, retryAfterMs: 220 },
    })
    const urgent = admit([10], { priority: 'high' })
    await clock.advance(400)
    expect([await codeOf(long), await codeOf(urgent)]).toEqual(['resolved', 'resolved'])
  })

  it('counts a request from before its tokenisation, by an estimate and then exactly', async () => {
    const { clock, queue } = createBatching()
    const places = [queue.reserve(400), queue.reserve(400)]
    expect([queue.requestCount, queue.tokenCount]).toEqual([2, 800])
    expect(() => queue.reserve(300)).toThrow('800 of 1000 tokens')
    const small = places[0]!.submit([sequence(10)], { timeoutMs: 1000 })
    expect(queue.tokenCount).toBe(410)
    // More than was estimated, and no room for it: refused after all.
    queue.reserve(500).release()
    const other = queue.reserve(500)
    expect(await codeOf(places[1]!.submit([sequence(600)], { timeoutMs: 1000 }))).toBe('QUEUE_FULL')
    other.release()
    other.release()
    await clock.advance(100)
    expect(await codeOf(small)).toBe('resolved')
    expect([queue.requestCount, queue.tokenCount]).toEqual([0, 0])
  })

  it('tells whether there is room, and why not', async () => {
    const { admit, clock, queue } = createBatching()
    expect(queue.refusal).toBeUndefined()
    for (let i = 0; i < 4; i++) void admit([1])
    expect(queue.refusal).toMatchObject({ code: 'QUEUE_FULL' })
    expect(queue.refusal).toBe(queue.refusal)
    await clock.advance(1000)
    expect(queue.refusal).toBeUndefined()
    queue.close()
    expect(queue.refusal).toMatchObject({ code: 'SHUTTING_DOWN' })
  })

  it('tells whether a request of the usual size would be late', async () => {
    const { admit, clock, queue } = createBatching(
      { targetP95Ms: 100, maxQueuedRequests: 50, maxBatchTokens: 50, maxBatchSize: 1 },
      ([length]) => length!,
    )
    for (let i = 0; i < 10; i++) {
      void admit([40])
      await clock.advance(50)
    }
    void admit([45])
    void admit([10])
    // 55 + 40 tokens take more than 90 ms; a request of the least size is taken when it asks for itself.
    expect(queue.refusal).toMatchObject({ code: 'OVER_OBJECTIVE' })
    const small = admit([1])
    await clock.advance(100)
    expect([await codeOf(small), queue.refusal]).toEqual(['resolved', undefined])
  })

  it('frees the place of a request that is cancelled or late', async () => {
    const { admit, clock, engine, queue } = createBatching()
    void admit([2])
    await settleMicrotasks()
    const abort = new AbortController()
    const cancelled = admit([3], { signal: abort.signal })
    const late = admit([4], { timeoutMs: 5 })
    abort.abort()
    expect(await codeOf(cancelled)).toBe('REQUEST_CANCELLED')
    expect([...queue.waiting()].map((input) => input.ids.length)).toEqual([4])
    await clock.advance(5)
    expect(await codeOf(late)).toBe('REQUEST_TIMEOUT')
    expect([...queue.waiting()]).toEqual([])
    await clock.advance(100)
    expect(engine.batches).toEqual([[2]])
    expect([queue.requestCount, queue.tokenCount, clock.pendingTimers]).toEqual([0, 0, 0])
  })

  it('refuses a request that is cancelled before it came and any after close, and ends what was accepted', async () => {
    const { admit, clock, queue } = createBatching()
    expect(await codeOf(admit([1], { signal: AbortSignal.abort() }))).toBe('REQUEST_CANCELLED')
    const accepted = admit([1])
    const tokenizing = queue.reserve(1)
    queue.close()
    expect(await codeOf(admit([1]))).toBe('SHUTTING_DOWN')
    let isIdle = false
    const waitForIdle = async (): Promise<void> => {
      await queue.whenIdle()
      isIdle = true
    }
    const idle = waitForIdle()
    await clock.advance(100)
    expect([await codeOf(accepted), isIdle]).toEqual(['resolved', false])
    const last = tokenizing.submit([sequence(1)], { timeoutMs: 1000 })
    await clock.advance(100)
    expect(await codeOf(last)).toBe('resolved')
    await idle
  })
})
