import { describe, expect, it } from 'vitest'
import { median, percentile } from './percentile.ts'
import { type Random, createRandom } from './random.ts'
import { ratioInterval } from './ratio-interval.ts'

describe('percentiles', () => {
  it('takes the nearest rank, and the mean of two middles', () => {
    const values = [5, 1, 4, 2, 3]
    expect([0, 0.2, 0.21, 0.5, 0.95, 1].map((share) => percentile(values, share))).toEqual([1, 1, 2, 3, 5, 5])
    expect(median([4, 1, 3, 2])).toBe(2.5)
    expect(percentile([], 0.5)).toBeNaN()
  })
})

describe('ratio of medians', () => {
  it.each([
    [5, false],
    [5, true],
    [9, false],
    [9, true],
  ])('%i equal rounds, paired %s, differ in one run of twenty at most', (count, isPaired) => {
    const random = createRandom(7)
    let different = 0
    for (let run = 0; run < 300; run++) {
      const interval = ratioInterval(makeRounds(random, count, 10), makeRounds(random, count, 10), {
        isPaired,
        seed: run,
      })
      if (interval.isSignificant) different++
    }
    expect(different / 300).toBeLessThanOrEqual(0.05)
  })

  it('finds a difference of 30 %, and says which way', () => {
    const random = createRandom(3)
    for (let run = 0; run < 50; run++) {
      const interval = ratioInterval(makeRounds(random, 5, 13), makeRounds(random, 5, 10), {
        isPaired: false,
      })
      expect(interval.isSignificant).toBe(true)
      expect(interval.low).toBeGreaterThan(1)
      expect(interval.ratio).toBeGreaterThan(interval.low - 1e-9)
      expect(interval.ratio).toBeLessThan(interval.high + 1e-9)
    }
  })

  it('cancels what two paired rounds suffered together', () => {
    const slow = [1, 1, 4, 1, 3, 1]
    const candidate = slow.map((factor) => 11 * factor)
    const baseline = slow.map((factor) => 10 * factor)
    const paired = ratioInterval(candidate, baseline, { isPaired: true })
    expect([paired.low, paired.high].map((bound) => bound.toFixed(6))).toEqual(['1.100000', '1.100000'])
    expect(ratioInterval(candidate, baseline, { isPaired: false }).isSignificant).toBe(false)
  })
})

/** Log-normal rounds of 6 %: the median of the recorded CPU runs. */
function makeRounds(random: Random, count: number, level: number): number[] {
  return Array.from({ length: count }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next())
    return level * Math.exp(0.06 * normal)
  })
}
