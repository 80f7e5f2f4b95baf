import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { poolings } from '../../model/spec.ts'
import { poolPacked, poolRectangle } from './pooling.ts'

// Two sequences, of 2 and 3 tokens; hidden size 2.
const hidden = Float32Array.of(1, 2, 3, 4, 10, 20, 30, 40, 80, 60)
const cumulativeLengths = Int32Array.of(0, 2, 5)

describe('poolPacked', () => {
  it.each([
    ['mean', [2, 3, 40, 40]],
    ['cls', [1, 2, 10, 20]],
    ['last-token', [3, 4, 80, 60]],
  ] as const)('%s gives the values worked out by hand', (pooling, expected) => {
    expect(Array.from(poolPacked(pooling, hidden, cumulativeLengths, 2))).toEqual(expected)
  })

  it('means as the plain sum does, for every length', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 23 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer(),
        (lengths, hiddenSize, seed) => {
          const ends = Int32Array.from([0, ...lengths])
          for (let i = 1; i < ends.length; i++) ends[i]! += ends[i - 1]!
          const values = Float32Array.from({ length: ends.at(-1)! * hiddenSize }, (_, i) =>
            Math.sin(i * 12.9 + seed),
          )
          const pooled = poolPacked('mean', values, ends, hiddenSize)
          lengths.forEach((length, sequence) => {
            for (let column = 0; column < hiddenSize; column++) {
              let sum = 0
              for (let token = 0; token < length; token++) {
                sum += values[(ends[sequence]! + token) * hiddenSize + column]!
              }
              expect(pooled[sequence * hiddenSize + column]).toBeCloseTo(sum / length, 5)
            }
          })
        },
      ),
    )
  })
})

describe('poolRectangle', () => {
  it.each(poolings)('%s: padding and the order of rows do not show', (pooling) => {
    // The same two sequences padded to 4 tokens, the longer one first; padding is NaN so that a touch shows.
    const padded = new Float32Array(2 * 4 * 2).fill(NaN)
    padded.set(hidden.subarray(4, 10), 0)
    padded.set(hidden.subarray(0, 4), 8)
    const out = new Float32Array(4)
    const rectangle = { sequences: Int32Array.of(1, 0), paddedLength: 4 }
    poolRectangle(pooling, padded, rectangle, cumulativeLengths, 2, out)
    expect(out).toEqual(poolPacked(pooling, hidden, cumulativeLengths, 2))
  })
})
