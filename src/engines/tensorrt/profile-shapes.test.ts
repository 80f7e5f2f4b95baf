import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { profile } from '../../../test/fakes/tensorrt.ts'
import type { Profile } from './plan.ts'
import { ProfileShapes } from './profile-shapes.ts'

const fit = (profiles: readonly Profile[], rows: number, tokens: number) => {
  const shape = new ProfileShapes([profiles]).fit(rows, tokens)
  return shape === undefined ? undefined : `${shape.rows}x${shape.tokens} of ${profiles[shape.profile]!.name}`
}

describe('ProfileShapes', () => {
  const buckets = [
    profile('one 64', '1/1/2', '1/64/64'),
    profile('one 500', '1/1/2', '65/500/500'),
    profile('many 64', '2/16/32', '1/64/64'),
    profile('many 500', '2/16/32', '65/500/500'),
  ]

  it.each([
    [1, 3, '1x8 of one 64'],
    [1, 64, '1x64 of one 64'],
    [1, 65, '1x72 of one 500'],
    // The last multiple of 8 lies beyond the profile.
    [1, 499, '1x500 of one 500'],
    [2, 500, '2x500 of one 500'],
    [2, 10, '2x16 of one 64'],
    [3, 10, '3x16 of many 64'],
    [32, 66, '32x72 of many 500'],
    [33, 10, undefined],
    [1, 501, undefined],
  ])('holds %i texts of %i tokens in %s', (rows, tokens, expected) => {
    expect(fit(buckets, rows, tokens)).toBe(expected)
  })

  it('takes the profile made for the nearest shape where two cost the same', () => {
    const profiles = [profile('low', '1/1/8', '1/64/64'), profile('high', '1/8/8', '1/64/64')]
    expect([fit(profiles, 1, 64), fit(profiles, 8, 64)]).toEqual(['1x64 of low', '8x64 of high'])
  })

  it('is the same again for the length it padded to, holds what was asked, and is within its profile', () => {
    const axis = fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 40 }))
    const profiles = fc.array(
      fc
        .tuple(axis, axis)
        .map(([[minB, moreB], [minT, moreT]]) =>
          profile('any', `${minB}/${minB}/${minB + moreB}`, `${minT}/${minT}/${minT + moreT}`),
        ),
      { minLength: 1, maxLength: 5 },
    )
    fc.assert(
      fc.property(
        profiles,
        fc.integer({ min: 1, max: 80 }),
        fc.integer({ min: 1, max: 80 }),
        (list, rows, tokens) => {
          const shapes = new ProfileShapes([list])
          const shape = shapes.fit(rows, tokens)
          const holds = list.some(({ maxBatch, maxTokens }) => maxBatch >= rows && maxTokens >= tokens)
          expect(shape !== undefined).toBe(holds)
          if (shape === undefined) return
          const within = list[shape.profile]!
          expect(shape.rows).toBeGreaterThanOrEqual(Math.max(rows, within.minBatch))
          expect(shape.rows).toBeLessThanOrEqual(within.maxBatch)
          expect(shape.tokens).toBeGreaterThanOrEqual(Math.max(tokens, within.minTokens))
          expect(shape.tokens).toBeLessThanOrEqual(within.maxTokens)
          expect(shapes.fit(rows, shape.tokens)).toEqual(shape)
        },
      ),
      { numRuns: 1000 },
    )
  })
})
