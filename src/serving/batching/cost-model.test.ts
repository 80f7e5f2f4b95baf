import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ArrivalRate } from './arrival-rate.ts'
import { BatchCostModel } from './cost-model.ts'

function learn(costOf: (tokens: number) => number, sizes: readonly number[]): BatchCostModel {
  const costs = new BatchCostModel()
  for (const tokens of sizes) costs.observe(tokens, costOf(tokens))
  return costs
}

describe('BatchCostModel', () => {
  it('learns the fixed and the growing cost of batches of different sizes', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 20, noNaN: true }),
        fc.double({ min: 0.001, max: 1, noNaN: true }),
        (fixedMs, msPerToken) => {
          const sizes = Array.from({ length: 60 }, (_, i) => 16 + ((i * 37) % 400))
          const costs = learn((tokens) => fixedMs + msPerToken * tokens, sizes)
          expect(costs.predictMs(1000)).toBeCloseTo(fixedMs + 1000 * msPerToken, 4)
          expect(costs.tokensWithin(fixedMs + 100 * msPerToken)).toBeCloseTo(100, 3)
          expect(costs.efficientTokens(0.2)).toBeCloseTo((4 * fixedMs) / msPerToken, 2)
        },
      ),
    )
  })

  it('knows nothing until enough batches ran', () => {
    const costs = learn((tokens) => 5 + tokens, [10, 20, 30, 40, 50, 60, 70])
    expect([costs.isKnown, costs.predictMs(50), costs.efficientTokens(0.2)]).toEqual([false, 0, 0])
    expect(costs.tokensWithin(1)).toBe(Infinity)
    costs.observe(80, 85)
    expect(costs.isKnown).toBe(true)
    expect(costs.predictMs(50)).toBeCloseTo(55)
  })

  it('counts all cost as growing while batches have one size, and keeps what it knew of the fixed one', () => {
    const uniform = learn(
      (tokens) => 5 + tokens,
      Array.from({ length: 20 }, () => 64),
    )
    expect(uniform.efficientTokens(0.2)).toBe(0)
    expect(uniform.predictMs(64)).toBeCloseTo(69)
    const costs = learn((tokens) => 5 + tokens, [16, 64, 16, 64, 16, 64, 16, 64])
    for (let i = 0; i < 300; i++) costs.observe(64, 69)
    expect(costs.efficientTokens(0.2)).toBeCloseTo(20, 0)
    expect(costs.predictMs(128)).toBeCloseTo(133, 0)
  })

  it('follows an engine that becomes slower', () => {
    const costs = learn((tokens) => tokens, [10, 20, 30, 40, 50, 60, 70, 80])
    for (let i = 0; i < 200; i++) costs.observe(10 + (i % 8) * 10, 3 * (10 + (i % 8) * 10))
    expect(costs.predictMs(100)).toBeCloseTo(300, 0)
  })

  it('divides waiting work among the places of the engine', () => {
    const costs = learn((tokens) => 2 + tokens, [10, 20, 30, 40, 50, 60, 70, 80])
    expect(costs.predictDrainMs(400, 4)).toBeCloseTo(102)
  })
})

describe('ArrivalRate', () => {
  it('comes close to a steady rate and fades when nothing comes', () => {
    const arrivals = new ArrivalRate()
    for (let ms = 0; ms < 2000; ms += 4) arrivals.note(2, ms)
    expect(arrivals.perMs(1998)).toBeCloseTo(0.5, 1)
    expect(arrivals.perMs(3500)).toBeLessThan(0.01)
  })
})
