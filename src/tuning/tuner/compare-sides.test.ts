import { describe, expect, it } from 'vitest'
import { drawNormal } from '../../../test/fakes/tuned-side.ts'
import { type Random, createRandom } from '../measure/random.ts'
import { type SidesVerdict, compareSides, looks } from './compare-sides.ts'
import { signedRankInterval } from './signed-rank.ts'

describe('the signed-rank interval', () => {
  it('equals the published one', () => {
    // Depression scores of nine patients, Hollander and Wolfe (1973), table 3.1; R: wilcox.test(d, conf.int = TRUE)
    const differences = [0.952, -0.147, 1.022, 0.43, 0.62, 0.59, 0.49, -0.08, 0.01]
    const { estimate, low, high } = signedRankInterval(differences, 0.05)
    expect(estimate).toBeCloseTo(0.46, 2)
    expect(low).toBeLessThan(0.05)
    expect(high).toBeCloseTo(0.786, 2)
  })

  it('tells nothing from too few differences', () => {
    expect(signedRankInterval([1, 1.1, 1.2, 1.3, 1.4], 0.05)).toMatchObject({
      low: -Infinity,
      high: Infinity,
    })
    expect(signedRankInterval([1, 1.1, 1.2, 1.3, 1.4, 1.5], 0.05).low).toBe(1)
  })
})

/** Standard deviation of the log of a round: from the range of five recorded rounds (2.33: expected range of five normal
 * values), the median over our rows and workloads of cpu-http-zen5-2026-11-25.json as of commit b2376df. A constant: a record
 * that is made anew on a busier machine must not change what is promised here. */
const quietNoise = 0.0547

/** A pair of rounds of three scenarios, as the tuner makes them: noise of its own in each, a drift that both sides share
 * less what passes between them, and now and then a stall. */
function createPairs(random: Random, noise: number, gain: number): () => Promise<number> {
  let drift = 0
  const round = (): number => {
    drift = 0.9 * drift + 0.03 * drawNormal(random)
    const scenarios = [0, 1, 2].map(() => noise * drawNormal(random) + (random.chance(0.02) ? -0.5 : 0))
    return drift + scenarios.reduce((sum, value) => sum + value, 0) / 3
  }
  let pair = 0
  return () => {
    const first = round()
    const second = round()
    return Promise.resolve(Math.log(1 + gain) + (pair++ % 2 === 0 ? first - second : second - first))
  }
}

describe('at the noise of a quiet machine, 1,000 seeded runs', () => {
  const count = async (gain: number): Promise<Record<SidesVerdict['verdict'], number>> => {
    const verdicts = { better: 0, worse: 0, equal: 0 }
    for (let seed = 0; seed < 1000; seed++) {
      const { verdict } = await compareSides(createPairs(createRandom(seed), quietNoise, gain))
      verdicts[verdict]++
    }
    return verdicts
  }

  it('two equal sides are told apart in 5 % at most', async () => {
    const { better, worse } = await count(0)
    expect(better + worse).toBeLessThanOrEqual(50)
  })

  it('a gain of 3 % is found in 80 % at least, and never taken for a loss', async () => {
    const { better, worse } = await count(0.03)
    expect(better).toBeGreaterThanOrEqual(800)
    expect(worse).toBe(0)
  })
})

describe('patience', () => {
  it('asks at every look that shows nothing, with the ratio of now, and ends as equal', async () => {
    const random = createRandom(2)
    const asked: number[] = []
    const { verdict, pairs } = await compareSides(createPairs(random, 0.4, 0.1), {
      isOver: (estimate) => asked.push(estimate) === 2,
    })
    expect([verdict, pairs]).toEqual(['equal', 12])
    expect(asked).toHaveLength(2)
  })

  it('a large difference is clear after the first look, either way', async () => {
    const random = createRandom(1)
    for (const [log, verdict] of [
      [0.3, 'better'],
      [-0.3, 'worse'],
    ] as const) {
      const found = await compareSides(() => Promise.resolve(log + 0.02 * drawNormal(random)))
      expect(found).toMatchObject({ verdict, pairs: looks[0]!.pairs })
      expect(found.ratio).toBeCloseTo(Math.exp(log), 1)
    }
  })

  it('equal sides cost few pairs, and no more than allowed', async () => {
    const random = createRandom(1)
    let pairs = 0
    for (let run = 0; run < 100; run++) {
      pairs += (await compareSides(() => Promise.resolve(0.05 * drawNormal(random)))).pairs
    }
    expect(pairs / 100).toBeLessThan(32)
    const found = await compareSides(() => Promise.resolve(0.05 * drawNormal(random)), { maxPairs: 12 })
    expect(found.pairs).toBeLessThanOrEqual(12)
    await expect(compareSides(() => Promise.resolve(0), { maxPairs: 3 })).rejects.toThrow(RangeError)
  })
})
