import { expect, it } from 'vitest'
import { SlidingMean } from './sliding-mean.ts'

it('is the mean of the last minute', () => {
  let nowMs = 1_000_123
  const mean = new SlidingMean(() => nowMs)
  expect([mean.mean, mean.count]).toEqual([0, 0])
  mean.add(2)
  mean.add(4)
  expect([mean.mean, mean.count]).toEqual([3, 2])
  nowMs += 30_000
  mean.add(9)
  expect([mean.mean, mean.count]).toEqual([5, 3])
  nowMs += 40_000
  expect([mean.mean, mean.count]).toEqual([9, 1])
  nowMs += 3_600_000
  expect([mean.mean, mean.count]).toEqual([0, 0])
  mean.add(7)
  expect([mean.mean, mean.count]).toEqual([7, 1])
})

it('forgets nothing that is younger than 55 s and nothing older than 60 s stays', () => {
  for (let offsetMs = 0; offsetMs < 5000; offsetMs += 500) {
    let nowMs = offsetMs
    const mean = new SlidingMean(() => nowMs)
    mean.add(1)
    nowMs = offsetMs + 55_000 - 1
    expect(mean.count, `after 55 s from ${offsetMs}`).toBe(1)
    nowMs = offsetMs + 60_000
    expect(mean.count, `after 60 s from ${offsetMs}`).toBe(0)
  }
})
