/** Queue, batcher, processor and supervisor under 10,000 random runs. A failing seed is named; replay it alone with
 *   SEED=1234 npx vitest run test/simulation */
import { describe, expect, it } from 'vitest'
import { type Tally, simulateServing } from './simulate-serving.ts'

const onlySeed = process.env['SEED']
const seeds = onlySeed === undefined ? Array.from({ length: 10_000 }, (_, i) => i) : [Number(onlySeed)]

describe('serving, simulated', () => {
  it('keeps its promises whatever comes', { timeout: 120_000 }, async () => {
    const tally: Tally = {}
    for (const seed of seeds) {
      const outcomes = await simulateServing(seed).catch((error: unknown) => {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error })
      })
      for (const [code, count] of Object.entries(outcomes)) tally[code] = (tally[code] ?? 0) + count
    }
    if (onlySeed !== undefined) return
    // Every kind of trouble was met, and most requests went through all the same.
    for (const code of [
      'QUEUE_FULL',
      'OVER_OBJECTIVE',
      'REQUEST_TOO_LARGE',
      'REQUEST_TIMEOUT',
      'REQUEST_CANCELLED',
      'ENGINE_FAILED',
      'NON_FINITE_OUTPUT',
      'ENGINE_OUT_OF_MEMORY',
    ]) {
      expect(tally[code], code).toBeGreaterThan(20)
    }
    expect(tally['engines']).toBeGreaterThan(seeds.length * 1.2)
    expect(tally['ok']).toBeGreaterThan(100_000)
  })

  it('gives the same run for the same seed', async () => {
    expect(await simulateServing(7)).toEqual(await simulateServing(7))
  })
})
