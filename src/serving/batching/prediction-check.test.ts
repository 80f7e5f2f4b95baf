import { describe, expect, it } from 'vitest'
import { PredictionCheck } from './prediction-check.ts'

describe('PredictionCheck', () => {
  it('finds the factor within which 95 of 100 requests are done', () => {
    const check = new PredictionCheck()
    // Real times are 0.8 to 1.8 of the prediction, evenly: the 95th percentile is 1.75.
    for (let i = 0; i < 3000; i++) check.observe(100, 100 * (0.8 + ((i * 37) % 100) / 100))
    expect(check.toP95Ms(1000)).toBeGreaterThan(1600)
    expect(check.toP95Ms(1000)).toBeLessThan(1900)
  })

  it('believes predictions that hold, and again once they hold again', () => {
    const check = new PredictionCheck()
    for (let i = 0; i < 100; i++) check.observe(100, 90)
    expect(check.toP95Ms(100)).toBe(100)
    for (let i = 0; i < 100; i++) check.observe(100, 300)
    expect(check.toP95Ms(100)).toBeGreaterThan(250)
    for (let i = 0; i < 2000; i++) check.observe(100, 90)
    expect(check.toP95Ms(100)).toBeLessThan(105)
  })

  it('learns nothing from what was not predicted to wait', () => {
    const check = new PredictionCheck()
    for (let i = 0; i < 100; i++) check.observe(5, 500)
    expect(check.toP95Ms(100)).toBe(100)
  })
})
