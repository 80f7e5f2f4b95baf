/** What every engine must keep; each engine's test runs this suite on itself. */
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Embeddings, Engine, PackedBatch } from '../src/engines/engine.ts'
import { cosine } from '../src/engines/vectors.ts'

export interface EngineContractOptions {
  /** Token ids 0 to vocabularySize - 1 may occur. */
  readonly vocabularySize: number
  /** Sequences and the vectors that another implementation gives for them. */
  readonly reference?: readonly { readonly ids: readonly number[]; readonly pooled: Float32Array }[]
  readonly tolerance: {
    /** Largest difference of a normalised value between runs of the same sequence in different batches. */
    readonly absolute: number
    /** Least cosine to the reference. */
    readonly minCosine: number
  }
}

/** `createEngine` gives a fresh engine at each call; its maxTokens must be 16 or more. */
export function describeEngineContract(
  name: string,
  createEngine: () => Promise<Engine>,
  { vocabularySize, reference = [], tolerance }: EngineContractOptions,
): void {
  describe(`${name} keeps the engine contract`, () => {
    let engine: Engine
    beforeAll(async () => {
      engine = await createEngine()
    })
    afterAll(async () => {
      await engine[Symbol.asyncDispose]()
    })

    const sequence = (length: number, seed = 0) =>
      Array.from({ length }, (_, i) => (i * 7919 + seed * 104729 + 13) % vocabularySize)
    const longest = () => Math.min(engine.info.maxTokens, 64)
    const ragged = () => [3, longest(), 1, 17, 8, 9, 2, longest() - 1].map((length, i) => sequence(length, i))

    it('tells what it is', () => {
      const { info } = engine
      expect(info.name).not.toBe('')
      expect(info.runtimeVersion).toMatch(/^\d/)
      expect(info.dimensions).toBeGreaterThan(0)
      expect(info.maxTokens).toBeGreaterThanOrEqual(16)
      expect(info.maxBatchSize).toBeGreaterThan(0)
      expect(info.concurrency).toBeGreaterThan(0)
      expect(info.memoryBytes).toBeGreaterThan(0)
      expect(info.outputs).toContain('pooled')
    })

    it('agrees with the reference', async () => {
      if (reference.length === 0) return
      const result = await engine.embed(pack(reference.map(({ ids }) => ids)))
      reference.forEach(({ pooled }, i) => {
        expect(cosine(rowOf(result, i), pooled)).toBeGreaterThanOrEqual(tolerance.minCosine)
      })
    })

    it('gives a sequence the same vector alone and in a ragged batch', async () => {
      const sequences = ragged()
      const together = await engine.embed(pack(sequences))
      expect(together.rows).toBe(sequences.length)
      expect(together.values.length).toBe(together.rows * together.dimensions)
      for (const [i, ids] of sequences.entries()) {
        const alone = await engine.embed(pack([ids]))
        expect(worstDifference(rowOf(together, i), rowOf(alone, 0))).toBeLessThanOrEqual(tolerance.absolute)
      }
    })

    it('keeps the order: a permuted batch gives the permuted vectors', async () => {
      const lengths = fc.array(fc.integer({ min: 1, max: longest() }), { minLength: 2, maxLength: 12 })
      const shuffled = lengths.chain((list) =>
        fc.tuple(
          fc.constant(list),
          fc.shuffledSubarray([...list.keys()], { minLength: list.length, maxLength: list.length }),
        ),
      )
      await fc.assert(
        fc.asyncProperty(shuffled, async ([list, order]) => {
          const sequences = list.map((length, i) => sequence(length, i))
          const plain = await engine.embed(pack(sequences))
          const permuted = await engine.embed(pack(order.map((i) => sequences[i]!)))
          order.forEach((from, to) => {
            expect(worstDifference(rowOf(permuted, to), rowOf(plain, from))).toBeLessThanOrEqual(
              tolerance.absolute,
            )
          })
        }),
        { numRuns: 15 },
      )
    })

    it('tells different sequences apart', async () => {
      const result = await engine.embed(pack([sequence(12, 1), sequence(12, 2)]))
      expect(cosine(rowOf(result, 0), rowOf(result, 1))).toBeLessThan(0.9999)
    })

    it('gives one row a token, or says that it cannot', async () => {
      const sequences = ragged()
      const tokens = engine.embed(pack(sequences), { output: 'tokens' })
      if (!engine.info.outputs.includes('tokens')) {
        await expect(tokens).rejects.toMatchObject({ code: 'OUTPUT_NOT_SUPPORTED' })
        return
      }
      const result = await tokens
      expect(result.rows).toBe(sequences.flat().length)
      expect(result.normalized).toBe(false)
      let row = 0
      for (const ids of sequences) {
        const alone = await engine.embed(pack([ids]), { output: 'tokens' })
        for (let i = 0; i < ids.length; i++) {
          expect(cosine(rowOf(result, row++), rowOf(alone, i))).toBeGreaterThanOrEqual(tolerance.minCosine)
        }
      }
    })

    it('normalises when asked, and by default', async () => {
      const batch = pack(ragged())
      const byDefault = await engine.embed(batch)
      const raw = await engine.embed(batch, { normalize: false })
      expect([byDefault.normalized, raw.normalized]).toEqual([true, false])
      for (let i = 0; i < raw.rows; i++) {
        expect(lengthOf(rowOf(byDefault, i))).toBeCloseTo(1, 5)
        const scaled = rowOf(raw, i).map((value) => value / lengthOf(rowOf(raw, i)))
        expect(worstDifference(scaled, rowOf(byDefault, i))).toBeLessThanOrEqual(tolerance.absolute)
      }
    })

    it('gives finite values only', async () => {
      const result = await engine.embed(pack(Array.from({ length: 40 }, (_, i) => sequence(1 + (i % 16), i))))
      expect(result.values.every(Number.isFinite)).toBe(true)
      expect(result.nonFiniteSequences).toEqual([])
    })

    it('answers calls made at once as it answers them one by one', async () => {
      const batches = Array.from({ length: 9 }, (_, i) => pack([sequence(1 + i, i), sequence(10, i)]))
      const atOnce = await Promise.all(batches.map((batch) => engine.embed(batch)))
      for (const [i, batch] of batches.entries()) {
        expect(worstDifference(atOnce[i]!.values, (await engine.embed(batch)).values)).toBeLessThanOrEqual(
          tolerance.absolute,
        )
      }
    })

    it('gives a batch that runs alone the same vectors, also beside calls that share', async () => {
      const batch = pack(ragged())
      const shared = await engine.embed(batch)
      const all = await Promise.all([
        engine.embed(batch, { exclusive: true }),
        engine.embed(batch),
        engine.embed(batch, { exclusive: true }),
      ])
      for (const { values } of all) {
        expect(worstDifference(values, shared.values)).toBeLessThanOrEqual(tolerance.absolute)
      }
    })

    it('leaves a result alone when the next batch runs', async () => {
      const first = await engine.embed(pack([sequence(9, 1)]))
      const before = first.values.slice()
      await engine.embed(pack([sequence(9, 2)]))
      expect(first.values).toEqual(before)
    })

    it('leaves the event loop free while it runs', async () => {
      const rows = Math.min(engine.info.maxBatchSize, 128)
      const batch = pack(Array.from({ length: rows }, (_, i) => sequence(longest(), i)))
      // What a shape costs when it is met first is not what it costs in service.
      await engine.embed(batch)
      let turns = 0
      let isDone = false
      const count = () => {
        turns++
        if (!isDone) setImmediate(count)
      }
      setImmediate(count)
      const startMs = performance.now()
      await engine.embed(batch)
      isDone = true
      // Packing and launching may take 5 ms; an engine that is done by then leaves time for few.
      expect(turns).toBeGreaterThan(Math.min(200, (performance.now() - startMs - 5) * 10))
    })

    it('does not run a batch that was aborted before', async () => {
      const signal = AbortSignal.abort()
      await expect(engine.embed(pack([sequence(4)]), { signal })).rejects.toMatchObject({
        code: 'REQUEST_CANCELLED',
      })
    })

    it('ends a batch that is aborted while it runs or waits, and goes on with others', async () => {
      const expected = await engine.embed(pack([sequence(5)]))
      const rows = Math.min(engine.info.maxBatchSize, 128)
      const batch = pack(Array.from({ length: rows }, (_, i) => sequence(longest(), i)))
      const controller = new AbortController()
      const calls = Array.from({ length: engine.info.concurrency + 2 }, () =>
        engine.embed(batch, { signal: controller.signal }),
      )
      const outcomes = Promise.allSettled(calls)
      setImmediate(() => controller.abort())
      for (const outcome of await outcomes) {
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'REQUEST_CANCELLED' })
      }
      expect((await outcomes).at(-1)!.status).toBe('rejected')
      const after = await engine.embed(pack([sequence(5)]))
      expect(worstDifference(after.values, expected.values)).toBeLessThanOrEqual(tolerance.absolute)
    })

    it('refuses what is no batch', async () => {
      const bad: PackedBatch[] = [
        { inputIds: new Int32Array(0), cumulativeLengths: Int32Array.of(0) },
        { inputIds: Int32Array.of(1, 2), cumulativeLengths: Int32Array.of(0, 0, 2) },
        { inputIds: Int32Array.of(1, 2), cumulativeLengths: Int32Array.of(0, 3) },
        pack([sequence(engine.info.maxTokens + 1)]),
      ]
      for (const batch of bad) {
        await expect(engine.embed(batch)).rejects.toMatchObject({ code: 'ENGINE_FAILED' })
      }
    })

    it('finishes what runs when disposed, then refuses; disposing twice is harmless', async () => {
      const other = await createEngine()
      const running = other.embed(pack(ragged()))
      await Promise.all([other[Symbol.asyncDispose](), other[Symbol.asyncDispose]()])
      expect((await running).rows).toBe(ragged().length)
      await expect(other.embed(pack([sequence(4)]))).rejects.toMatchObject({ code: 'ENGINE_FAILED' })
      await other[Symbol.asyncDispose]()
    })
  })
}

/** Sequences laid end to end. */
export function pack(sequences: readonly (readonly number[])[]): PackedBatch {
  const cumulativeLengths = new Int32Array(sequences.length + 1)
  sequences.forEach((ids, i) => {
    cumulativeLengths[i + 1] = cumulativeLengths[i]! + ids.length
  })
  return { inputIds: Int32Array.from(sequences.flat()), cumulativeLengths }
}

export function rowOf({ values, dimensions }: Embeddings, row: number): Float32Array {
  return values.subarray(row * dimensions, (row + 1) * dimensions)
}

function lengthOf(vector: Float32Array): number {
  return Math.hypot(...vector)
}

/** Largest difference of two values at the same place. */
function worstDifference(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Infinity
  return actual.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i]!)), 0)
}
