import { describe, expect, it } from 'vitest'
import { createBatching, sequence } from '../../../test/fakes/batching-harness.ts'
import { settleMicrotasks } from '../../../test/fakes/virtual-clock.ts'

describe('batching with one place in the engine', () => {
  it('dispatches at once when the engine is idle', async () => {
    const { admit, clock, engine } = createBatching()
    const result = admit([3])
    await settleMicrotasks()
    expect(engine.batches).toEqual([[3]])
    await clock.advance(11)
    const { rows, queueMs, inferenceMs } = await result
    expect(rows).toEqual([Float32Array.of(3, 3)])
    expect([queueMs, inferenceMs]).toEqual([0, 11])
  })

  it('collects while the engine is busy and runs what waits as one batch', async () => {
    const { admit, clock, engine } = createBatching()
    const first = admit([2])
    await settleMicrotasks()
    const others = [admit([2]), admit([2]), admit([2])]
    await clock.advance(11)
    expect(engine.batches).toEqual([[2], [2, 2, 2]])
    await clock.advance(13)
    await Promise.all([first, ...others])
  })

  it('gives results in the order of the inputs whatever the order of the lengths', async () => {
    const { admitIds, clock } = createBatching()
    const result = admitIds([sequence(9, 5), sequence(1, 7), sequence(4, 2)])
    await clock.advance(200)
    expect((await result).rows.map((row) => [...row])).toEqual([
      [45, 9],
      [7, 1],
      [8, 4],
    ])
  })

  it('splits a list that is larger than a batch', async () => {
    const { admit, clock, engine } = createBatching()
    const result = admit(Array.from({ length: 10 }, () => 2))
    await clock.advance(1000)
    expect((await result).rows).toHaveLength(10)
    expect(engine.batches.map((batch) => batch.length)).toEqual([4, 4, 2])
  })

  it('runs tokens and pooled output in batches of their own', async () => {
    const { admit, clock, engine } = createBatching()
    const pooled = admit([2])
    const tokens = admit([3], { output: 'tokens' })
    await clock.advance(100)
    expect(engine.batches).toEqual([[2], [3]])
    expect((await pooled).rows[0]).toEqual(Float32Array.of(2, 2))
    expect((await tokens).rows[0]).toEqual(Float32Array.of(1, 1, 1, 1, 1, 1))
  })
})

describe('batching with several places in the engine', () => {
  it('gives a text that comes alone the whole engine, and nothing runs beside it', async () => {
    const { admit, clock, engine } = createBatching({ concurrency: 2 })
    void admit([2])
    await clock.advance(6)
    const later = [admit([3]), admit([3])]
    await clock.advance(4)
    expect(engine.batches).toEqual([[2]])
    await clock.advance(100)
    expect(engine.batches).toEqual([[2], [3], [3]])
    expect([engine.mostRunning, engine.brokeExclusive]).toEqual([2, false])
    await Promise.all(later)
  })

  it('shares evenly what waits', async () => {
    const { admit, clock, engine } = createBatching({
      concurrency: 2,
      maxBatchSize: 32,
      maxBatchTokens: 4096,
    })
    const result = admit(Array.from({ length: 20 }, () => 8))
    await clock.advance(100)
    await result
    expect(engine.batches.map((batch) => batch.length)).toEqual([10, 10])
  })

  it('waits at most the ceiling for a fuller batch while another runs', async () => {
    const { admit, clock, engine } = createBatching({ concurrency: 2 }, (lengths) => 10 * lengths[0]!)
    void admit([6])
    void admit([1])
    await clock.advance(10)
    expect(engine.batches).toEqual([[6], [1]])
    void admit([2])
    await clock.advance(4)
    void admit([2])
    await settleMicrotasks()
    expect(engine.batches).toHaveLength(2)
    await clock.advance(1)
    expect(engine.batches.slice(2)).toEqual([[2, 2]])
    await clock.advance(100)
  })

  it('waits only where a fuller batch is cheaper and enough is expected', async () => {
    // Every batch of the first engine takes as long whatever it holds; with the second only tokens count.
    for (const [durationMs, expectsFuller] of [
      [() => 20, true],
      [(lengths: readonly number[]) => 2 * lengths.length, false],
    ] as const) {
      const { admit, clock, engine } = createBatching(
        { concurrency: 2, adaptiveBatching: true, maxQueuedRequests: 500, maxBatchSize: 32 },
        durationMs,
      )
      for (let i = 0; i < 400; i++) {
        void admit(i % 3 === 0 ? [2, 2] : [2])
        await clock.advance(2)
      }
      const sizes = engine.batches.slice(-20).map((batch) => batch.length)
      const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length
      if (expectsFuller) expect(mean).toBeGreaterThan(4)
      else expect(mean).toBeLessThan(3)
      // Nobody to come: a lone arrival beside a running batch does not wait.
      await clock.advance(5000)
      const before = engine.batches.length
      void admit([2, 2, 2, 2])
      await settleMicrotasks()
      const running = engine.batches.length
      expect(running).toBeGreaterThan(before)
      await clock.advance(5000)
    }
  })

  it('does not leave a place empty for longer than what is expected would save', async () => {
    // A batch costs 2 ms and 0.25 ms a token. Four clients send a text every 12 ms each: more than one is expected within the
    // ceiling, and saves less than it takes.
    const { admit, clock, engine } = createBatching(
      { concurrency: 2, adaptiveBatching: true, maxBatchSize: 32 },
      (lengths) => 2 + 0.25 * lengths.reduce((sum, length) => sum + length, 0),
    )
    let next = 0
    const lengths = [8, 16, 24, 12, 20, 28, 16]
    const runClient = async (): Promise<void> => {
      for (let i = 0; i < 400; i++) await admit([lengths[next++ % lengths.length]!])
    }
    const clients = Promise.all([runClient(), runClient(), runClient(), runClient()])
    for (let i = 0; i < 16_000; i++) await clock.advance(0.5)
    await clients
    const sizes = engine.batches.slice(-400, -10).map((batch) => batch.length)
    expect(sizes.reduce((sum, size) => sum + size, 0) / sizes.length).toBeLessThan(1.6)
  })

  it('keeps batches small enough for the objective', async () => {
    const { admit, clock, engine } = createBatching(
      { targetP95Ms: 40, maxBatchSize: 32, maxBatchTokens: 4096, maxQueuedRequests: 500 },
      (lengths) => lengths.reduce((sum, length) => sum + length, 0),
    )
    for (let i = 0; i < 10; i++) {
      void admit(i % 2 === 0 ? [4, 4] : [4])
      await clock.advance(20)
    }
    engine.batches.length = 0
    void admit(Array.from({ length: 8 }, () => 4))
    await clock.advance(200)
    expect(engine.batches.map((batch) => batch.length)).toEqual([5, 3])
  })
})

describe('priority', () => {
  it('overtakes what waits, in batches of its own', async () => {
    const { admit, clock, engine } = createBatching({ maxQueuedRequests: 9 })
    void admit([2])
    await settleMicrotasks()
    void admit([3, 3, 3, 3, 3])
    void admit([4], { priority: 'high' })
    await clock.advance(100)
    expect(engine.batches).toEqual([[2], [4], [3, 3, 3, 3], [3]])
  })

  it('shortens the batches of others while it comes, and only then', async () => {
    const { admit, clock, engine } = createBatching(
      { maxBatchSize: 32, maxBatchTokens: 4096, maxQueuedRequests: 500, maxQueuedTokens: 9999 },
      (lengths) => 2 + lengths.length,
    )
    const sizesOf = async (): Promise<number[]> => {
      engine.batches.length = 0
      void admit(Array.from({ length: 54 }, () => 1))
      await clock.advance(500)
      return engine.batches.map((batch) => batch.length)
    }
    await sizesOf()
    expect(await sizesOf()).toEqual([32, 22])
    for (let i = 0; i < 10; i++) {
      void admit(i % 2 === 0 ? [1] : [1, 1, 1])
      await clock.advance(10)
    }
    void admit([1], { priority: 'high' })
    await clock.advance(10)
    // 2 ms fixed and 1 ms a text: at 6 texts the fixed cost is a quarter.
    expect(await sizesOf()).toEqual(Array.from({ length: 9 }, () => 6))
    await clock.advance(1000)
    expect(await sizesOf()).toEqual([32, 22])
  })

  it('cannot starve the rest: what waited for the head start goes first', async () => {
    const { admit, clock } = createBatching({
      priorityHeadStartMs: 50,
      maxBatchSize: 1,
      maxQueuedRequests: 100,
    })
    const settledMs: number[] = []
    for (let i = 0; i < 40; i++) {
      // More priority requests than the engine can do: 11 ms each, one every 10 ms.
      void admit([1], { priority: 'high' })
      if (i === 5) void admit([2]).then(() => settledMs.push(clock.nowMs()))
      await clock.advance(10)
    }
    // Came at 50 ms; what came up to 100 ms overtakes it, so about six of 11 ms after that.
    expect(settledMs[0]).toBeLessThan(50 + 50 + 7 * 11)
    await clock.advance(1000)
  })
})
