import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pack } from '../../../test/engine-contract.ts'
import {
  planRectangles,
  type Rectangle,
  type RectangleLimits,
  shapesWithin,
  writeRectangle,
} from './padding.ts'

const limits: RectangleLimits = {
  maxRows: 8,
  maxCells: 256,
  lengthMultiple: 8,
  maxTokens: 60,
  overheadCells: 16,
}

const ends = (lengths: readonly number[]) => {
  const cumulative = Int32Array.from([0, ...lengths])
  for (let i = 1; i < cumulative.length; i++) cumulative[i]! += cumulative[i - 1]!
  return cumulative
}
const plan = (lengths: readonly number[], changes: Partial<RectangleLimits> = {}) =>
  planRectangles(ends(lengths), shapesWithin({ ...limits, ...changes }))
const cellsOf = (rectangles: readonly Rectangle[], overhead: number) =>
  rectangles.reduce((sum, { sequences, paddedLength }) => sum + overhead + sequences.length * paddedLength, 0)

describe('planRectangles', () => {
  it('keeps like lengths together and rounds the length up', () => {
    expect(plan([9, 16, 12])).toEqual([{ sequences: Int32Array.of(1, 2, 0), paddedLength: 16 }])
  })

  it('cuts where padding would cost more than another run', () => {
    // Together 4 x 56 = 224 cells; apart 56 + 3 x 8 + one more overhead = 96.
    expect(plan([3, 50, 5, 8])).toEqual([
      { sequences: Int32Array.of(1), paddedLength: 56 },
      { sequences: Int32Array.of(3, 2, 0), paddedLength: 8 },
    ])
    // With a dear overhead they stay together.
    expect(plan([3, 50, 5, 8], { overheadCells: 1000 })).toHaveLength(1)
  })

  it('rounds no further than the model takes, and takes a sequence that alone exceeds maxCells', () => {
    expect(plan([58])).toEqual([{ sequences: Int32Array.of(0), paddedLength: 60 }])
    expect(plan([300], { maxTokens: 512 })).toEqual([{ sequences: Int32Array.of(0), paddedLength: 304 }])
  })

  it('is within the limits, holds each sequence once, and no other cut at sorted places is cheaper', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 9 })
    fc.assert(
      fc.property(lengths, fc.integer({ min: 0, max: 100 }), (list, overheadCells) => {
        const rectangles = plan(list, { overheadCells })
        const places = rectangles.flatMap(({ sequences }) => Array.from(sequences))
        expect(places.sort((a, b) => a - b)).toEqual([...list.keys()])
        for (const { sequences, paddedLength } of rectangles) {
          expect(sequences.length).toBeLessThanOrEqual(limits.maxRows)
          if (sequences.length > 1)
            expect(sequences.length * paddedLength).toBeLessThanOrEqual(limits.maxCells)
          for (const i of sequences) expect(list[i]).toBeLessThanOrEqual(paddedLength)
        }
        expect(cellsOf(rectangles, overheadCells)).toBe(cheapest(list, overheadCells))
      }),
    )
  })
})

/** By trying every way to cut the sorted lengths. */
function cheapest(lengths: readonly number[], overhead: number): number {
  const sorted = [...lengths].sort((a, b) => b - a)
  let best = Infinity
  for (let cuts = 0; cuts < 2 ** (sorted.length - 1); cuts++) {
    let cost = 0
    let start = 0
    for (let end = 1; end <= sorted.length; end++) {
      if (end < sorted.length && ((cuts >> (end - 1)) & 1) === 0) continue
      const length = Math.min(Math.ceil(sorted[start]! / 8) * 8, limits.maxTokens)
      const rows = end - start
      const fits = rows <= limits.maxRows && (rows === 1 || rows * length <= limits.maxCells)
      cost += fits ? overhead + rows * length : Infinity
      start = end
    }
    best = Math.min(best, cost)
  }
  return best
}

const buffer = () => ({ values: new Int32Array(8).fill(-1), stride: 1 as const })

describe('writeRectangle', () => {
  const batch = pack([[7, 8], [1], [4, 5, 6]])
  const rectangle = { sequences: Int32Array.of(2, 0), paddedLength: 4 }

  it('writes ids, mask and positions over what the buffer held', () => {
    const inputs = { inputIds: buffer(), attentionMask: buffer(), positionIds: buffer() }
    writeRectangle(batch, rectangle, 9, inputs)
    expect(Array.from(inputs.inputIds.values)).toEqual([4, 5, 6, 9, 7, 8, 9, 9])
    expect(Array.from(inputs.attentionMask.values)).toEqual([1, 1, 1, 0, 1, 1, 0, 0])
    expect(Array.from(inputs.positionIds.values)).toEqual([0, 1, 2, 0, 0, 1, 0, 0])
  })

  it('writes int64 cells', () => {
    const memory = new ArrayBuffer(8 * 8)
    writeRectangle(batch, rectangle, 9, { inputIds: { values: new Int32Array(memory), stride: 2 } })
    expect(Array.from(new BigInt64Array(memory), Number)).toEqual([4, 5, 6, 9, 7, 8, 9, 9])
  })
})
