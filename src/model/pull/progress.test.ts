import { expect, test } from 'vitest'
import { createProgressMeter } from './progress.ts'

function createClock(): { nowMs: () => number; advance: (ms: number) => void } {
  let timeMs = 1000
  return {
    nowMs: () => timeMs,
    advance: (ms) => {
      timeMs += ms
    },
  }
}

test('a steady transfer has its rate and remaining time', () => {
  const clock = createClock()
  const meter = createProgressMeter(clock.nowMs)
  expect(meter.update(0, 10_000)).toEqual({ bytesPerSecond: 0 })
  clock.advance(1000)
  expect(meter.update(2000, 10_000)).toEqual({ bytesPerSecond: 2000, etaSeconds: 4 })
  clock.advance(500)
  expect(meter.update(3000, 10_000)).toEqual({ bytesPerSecond: 2000, etaSeconds: 3.5 })
})

test('bytes of an earlier run are no speed', () => {
  const clock = createClock()
  const meter = createProgressMeter(clock.nowMs)
  meter.update(1_000_000, 2_000_000)
  clock.advance(1000)
  expect(meter.update(1_000_100, 2_000_000).bytesPerSecond).toBe(100)
})

test('a change of speed is followed smoothly and does not depend on how often it is asked', () => {
  const rates = [1000, 250].map((stepMs) => {
    const clock = createClock()
    const meter = createProgressMeter(clock.nowMs)
    meter.update(0)
    let bytes = 0
    let rate = 0
    for (let timeMs = 0; timeMs < 10_000; timeMs += stepMs) {
      clock.advance(stepMs)
      bytes += (timeMs < 5000 ? 1000 : 3000) * (stepMs / 1000)
      rate = meter.update(bytes).bytesPerSecond
    }
    return rate
  })
  expect(rates[0]).toBeGreaterThan(2400)
  expect(rates[0]).toBeLessThan(2900)
  expect(rates[1]).toBeCloseTo(rates[0] ?? 0, 6)
})

test('chunks within a blink are added up', () => {
  const clock = createClock()
  const meter = createProgressMeter(clock.nowMs)
  meter.update(0)
  for (let chunk = 1; chunk <= 100; chunk++) {
    clock.advance(10)
    meter.update(chunk * 10)
  }
  expect(meter.update(1000).bytesPerSecond).toBeCloseTo(1000, 6)
})

test('a restart begins a new measurement', () => {
  const clock = createClock()
  const meter = createProgressMeter(clock.nowMs)
  meter.update(0)
  clock.advance(1000)
  meter.update(5000)
  expect(meter.update(0)).toEqual({ bytesPerSecond: 0 })
  clock.advance(1000)
  expect(meter.update(100, 100)).toEqual({ bytesPerSecond: 100, etaSeconds: 0 })
})
