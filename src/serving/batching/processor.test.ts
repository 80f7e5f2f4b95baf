import { describe, expect, it } from 'vitest'
import { ArithmeticEngine } from '../../../test/fakes/arithmetic-engine.ts'
import { codeOf, createBatching, sequence } from '../../../test/fakes/batching-harness.ts'
import { VirtualClock } from '../../../test/fakes/virtual-clock.ts'
import { EmbedError } from '../../errors.ts'
import type { Engine } from '../../engines/engine.ts'

describe('a batch that fails', () => {
  it('fails only the guilty input: the batch is bisected', async () => {
    const { admit, admitIds, clock } = createBatching()
    const good = [admit([2]), admit([2])]
    const bad = admitIds([sequence(2, ArithmeticEngine.poisonId)])
    good.push(admit([2]))
    await clock.advance(1000)
    expect(await codeOf(bad)).toBe('ENGINE_FAILED')
    expect(await Promise.all(good.map(codeOf))).toEqual(['resolved', 'resolved', 'resolved'])
  })

  it('is not tried again in halves when the failure is not of one input', async () => {
    const refusing: Engine = {
      info: new ArithmeticEngine(new VirtualClock(), () => 1).info,
      embed: () => {
        calls++
        return Promise.reject(
          new EmbedError('ENGINE_UNAVAILABLE', { engine: 'x', reason: 'gone', fix: 'wait' }),
        )
      },
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }
    let calls = 0
    const { admit, clock } = createBatching({}, () => 1, { engine: refusing })
    const results = [admit([1]), admit([1, 1]), admit([1])]
    await clock.advance(10)
    expect(await Promise.all(results.map(codeOf))).toEqual(results.map(() => 'ENGINE_UNAVAILABLE'))
    expect(calls).toBe(1)
  })

  it('is halved when memory runs out, and the size that fits is remembered', async () => {
    const { admit, clock, engine } = createBatching({
      maxBatchSize: 8,
      maxBatchTokens: 80,
      maxQueuedRequests: 9,
    })
    engine.memoryTokens = 25
    const results = [admit(Array.from({ length: 8 }, () => 10)), admit(Array.from({ length: 8 }, () => 10))]
    await clock.advance(1000)
    expect(await Promise.all(results.map(codeOf))).toEqual(['resolved', 'resolved'])
    // 80 and 40 tokens fail; from then on batches have 20.
    expect(engine.batches.map((batch) => batch.length)).toEqual([8, 4, 2, 2, 4, 2, 2, 2, 2, 2, 2])
    const tooLong = admit([30])
    await clock.advance(100)
    await expect(tooLong).rejects.toMatchObject({
      code: 'ENGINE_OUT_OF_MEMORY',
      details: { sequences: 1, tokens: 30 },
    })
  })
})

describe('rows that are not finite', () => {
  const mixed = [sequence(2), sequence(2, ArithmeticEngine.nanId), sequence(3)]

  it('fail alone, named, without another run of their batch', async () => {
    const { admit, admitIds, clock, engine } = createBatching()
    const bad = admitIds(mixed)
    const good = admit([2])
    await clock.advance(1000)
    await expect(bad).rejects.toMatchObject({
      code: 'NON_FINITE_OUTPUT',
      details: { index: 1, engine: 'arithmetic', precision: 'fp32' },
    })
    expect(await codeOf(good)).toBe('resolved')
    expect(engine.batches).toHaveLength(1)
  })

  it('are computed once more at a higher precision where there is one', async () => {
    const clock = new VirtualClock()
    const started: Engine[] = []
    /** Gives what the other cannot: the arithmetic of the ids without the NaN. */
    const higher: Engine = {
      info: { ...new ArithmeticEngine(clock, () => 1).info, name: 'higher' },
      embed: (batch) =>
        Promise.resolve({
          values: Float32Array.of(7, batch.inputIds.length),
          rows: 1,
          dimensions: 2,
          normalized: false,
          nonFiniteSequences: batch.inputIds.length === 5 ? [0] : [],
          inferenceNs: 1n,
        }),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }
    const batching = createBatching({}, undefined, {
      higherPrecision: () => {
        started.push(higher)
        return Promise.resolve(higher)
      },
    })
    const result = batching.admitIds(mixed)
    const hopeless = batching.admitIds([sequence(5, ArithmeticEngine.nanId)])
    await batching.clock.advance(1000)
    expect((await result).rows.map((row) => [...row])).toEqual([
      [2, 2],
      [7, 2],
      [3, 3],
    ])
    await expect(hopeless).rejects.toMatchObject({ code: 'NON_FINITE_OUTPUT', details: { engine: 'higher' } })
  })

  it('fail named when the higher precision cannot start', async () => {
    const batching = createBatching({}, undefined, { higherPrecision: () => Promise.reject(new Error('no')) })
    const bad = batching.admitIds(mixed)
    await batching.clock.advance(100)
    expect(await codeOf(bad)).toBe('NON_FINITE_OUTPUT')
  })
})
