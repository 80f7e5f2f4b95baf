import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { waitingInput } from '../../../test/fakes/batching-harness.ts'
import { selectBatch } from './batch-selection.ts'
import { packBatch } from './packed-batch.ts'
import type { QueuedInput } from './queue.ts'
import { WaitingLine } from './waiting-line.ts'

function toLine(lengths: readonly number[]): WaitingLine {
  const line = new WaitingLine()
  for (const [index, length] of lengths.entries()) line.add(waitingInput(length, index))
  return line
}

const lengthsOf = (batch: readonly QueuedInput[]): number[] => batch.map((input) => input.ids.length)

describe('selectBatch', () => {
  const inputs = fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 60 })
  const enough = fc.option(fc.integer({ min: 1, max: 200 }), { nil: undefined })

  it('always takes the oldest, keeps every limit and bounds the padding', () => {
    fc.assert(
      fc.property(inputs, enough, (lengths, enoughTokens) => {
        const line = toLine(lengths)
        const limits = { maxBatchSize: 8, maxBatchTokens: 128, ...(enoughTokens && { enoughTokens }) }
        const batch = selectBatch(line, limits)
        const longest = Math.max(...lengthsOf(batch))
        const tokens = lengthsOf(batch).reduce((sum, length) => sum + length, 0)
        const padded = longest * batch.length
        expect(batch[0]).toBe(line.oldest)
        expect(new Set(batch).size).toBe(batch.length)
        expect(batch.length).toBeLessThanOrEqual(8)
        expect(padded).toBeLessThanOrEqual(Math.max(128, longest))
        expect(padded - tokens).toBeLessThanOrEqual(64 + 0.2 * padded)
        if (enoughTokens !== undefined) expect(tokens - lengthsOf(batch).at(-1)!).toBeLessThan(enoughTokens)
      }),
    )
  })

  it('takes every input of one length that fits, the oldest first', () => {
    const line = toLine(Array.from({ length: 12 }, () => 16))
    const batch = selectBatch(line, { maxBatchSize: 32, maxBatchTokens: 128 })
    expect(batch.map((input) => input.index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  })

  it('leaves a long text to a batch of its own', () => {
    const batch = selectBatch(toLine([4, 64, 4, 5]), { maxBatchSize: 8, maxBatchTokens: 4096 })
    expect(lengthsOf(batch)).toEqual([4, 4, 5])
  })

  it('prefers the neighbour that is closer in length', () => {
    const batch = selectBatch(toLine([32, 20, 33, 31, 48]), { maxBatchSize: 3, maxBatchTokens: 4096 })
    expect(lengthsOf(batch)).toEqual([32, 31, 33])
  })

  it('lets an input that exceeds the limit run alone', () => {
    expect(lengthsOf(selectBatch(toLine([64, 64]), { maxBatchSize: 8, maxBatchTokens: 32 }))).toEqual([64])
  })
})

describe('packBatch', () => {
  it('lays any sequences end to end', () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat(30_000), { minLength: 1 }), { minLength: 1 }), (lists) => {
        const { inputIds, cumulativeLengths } = packBatch(lists.map((list) => Int32Array.from(list)))
        const back = lists.map((_, i) => [
          ...inputIds.subarray(cumulativeLengths[i], cumulativeLengths[i + 1]),
        ])
        expect(back).toEqual(lists)
        expect(cumulativeLengths.at(-1)).toBe(inputIds.length)
      }),
    )
  })
})
