import { expect, it } from 'vitest'
import { limitShapes } from './warm-up.ts'

it('warms up as much of a shape as one pass takes, once', () => {
  const shapes = [
    { sequences: 1, tokens: 16 },
    { sequences: 1, tokens: 512 },
    { sequences: 8, tokens: 512 },
    { sequences: 32, tokens: 512 },
    { sequences: 2000, tokens: 1 },
    { sequences: 1, tokens: 900 },
  ]
  const limits = { maxPassTokens: 1024, maxPassSequences: 1000, maxTokens: 600 }
  expect(limitShapes(shapes, limits)).toEqual([
    { sequences: 1, tokens: 16 },
    { sequences: 1, tokens: 512 },
    { sequences: 2, tokens: 512 },
    { sequences: 1000, tokens: 1 },
    { sequences: 1, tokens: 600 },
  ])
})
