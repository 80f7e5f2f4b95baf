import { expect, it } from 'vitest'
import { GraphShapes } from './graph-shapes.ts'
import type { EngineShape } from './profile-shapes.ts'

const shape = (rows: number, tokens: number): EngineShape => ({
  plan: 0,
  profile: 0,
  rows,
  tokens,
  key: rows * 10_000 + tokens,
})

it('gives a graph to a shape that comes again, and takes it from the one not used for longest', () => {
  const shapes = new GraphShapes(2)
  const use = (rows: number) => shapes.use(shape(rows, 64))
  expect([use(1), use(1), use(2), use(2), use(1)]).toEqual([false, true, false, true, true])
  expect([use(3), use(3), shapes.count, shapes.generation]).toEqual([false, true, 2, 1])
  expect([1, 2, 3].map((rows) => shapes.has(shape(rows, 64)))).toEqual([true, false, true])
})

it('keeps those there are when it is closed, and none when it is turned off', () => {
  const shapes = new GraphShapes(4)
  shapes.promote(shape(1, 64))
  shapes.close()
  expect([shapes.use(shape(1, 64)), shapes.use(shape(2, 64)), shapes.use(shape(2, 64))]).toEqual([
    true,
    false,
    false,
  ])
  shapes.turnOff()
  expect([shapes.use(shape(1, 64)), shapes.count, shapes.isOpen]).toEqual([false, 0, false])
  expect(new GraphShapes(0).use(shape(1, 1))).toBe(false)
})

it('prefers a longer shape that has a graph only where that costs next to nothing', () => {
  const shapes = new GraphShapes(8)
  for (const tokens of [64, 256, 512]) shapes.promote(shape(1, tokens))
  shapes.promote(shape(8, 256))
  const preferred = [40, 24, 200, 300, 460].map((tokens) => shapes.prefer(shape(1, tokens)).tokens)
  expect(preferred).toEqual([64, 24, 256, 300, 512])
  expect([200, 232].map((tokens) => shapes.prefer(shape(8, tokens)).tokens)).toEqual([200, 256])
})
