import { expect, it } from 'vitest'
import { createBuildMeter } from './build-progress.ts'

const phase = (
  name: string,
  parent: string | undefined,
  steps: number,
  completedSteps: number,
  isDone = false,
) => ({
  phase: name,
  parent,
  steps,
  completedSteps,
  isDone,
})

it('counts an inner phase as a part of a step of the outer one, and never goes back', () => {
  let nowMs = 1000
  const meter = createBuildMeter(() => nowMs)
  const step = (...args: Parameters<typeof phase>) => meter.update(phase(...args))
  expect(step('Building', undefined, 4, 0)).toEqual({ phase: 'Building', ratio: 0, remainingMs: undefined })
  nowMs = 2000
  step('Tactics', 'Building', 10, 0)
  // Half of the first of four steps.
  expect(step('Tactics', 'Building', 10, 5)).toEqual({ phase: 'Tactics', ratio: 0.125, remainingMs: 7000 })
  expect(step('Tactics', 'Building', 10, 10, true).ratio).toBeCloseTo(0.2475)
  expect(step('Building', undefined, 4, 1).ratio).toBe(0.25)
  // Another inner phase begins at its start; the whole stands where it was.
  expect(step('Weights', 'Building', 2, 0).ratio).toBe(0.25)
  nowMs = 5000
  expect(step('Building', undefined, 4, 2)).toEqual({ phase: 'Building', ratio: 0.5, remainingMs: 4000 })
  expect(step('Building', undefined, 4, 2, true)).toEqual({ phase: 'Building', ratio: 1, remainingMs: 0 })
  // A second root starts over; people see no fall.
  expect(step('Serializing', undefined, 8, 1).ratio).toBe(1)
})

it('takes phases without steps and more steps than were told', () => {
  const meter = createBuildMeter(() => 0)
  expect(meter.update(phase('a', undefined, 0, 0)).ratio).toBe(0)
  expect(meter.update(phase('a', undefined, 0, 3)).ratio).toBe(1)
})
