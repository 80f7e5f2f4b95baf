import { describe, expect, it } from 'vitest'
import { toBulkProgress } from './progress.ts'

const zero = { records: 0, tokens: 0, truncated: 0, skipped: 0, position: 0, inputBytes: 0 }

describe('toBulkProgress', () => {
  it('counts rates and time left from bytes where the number of records is unknown', () => {
    const now = { records: 100, tokens: 3000, truncated: 2, skipped: 1, position: 101, inputBytes: 2500 }
    expect(
      toBulkProgress({ start: zero, now, elapsedMs: 2000, totalRecords: undefined, totalBytes: 10_000 }),
    ).toEqual({
      records: 100,
      tokens: 3000,
      truncated: 2,
      skipped: 1,
      elapsedMs: 2000,
      recordsPerSecond: 50,
      tokensPerSecond: 1500,
      doneRatio: 0.25,
      remainingMs: 6000,
    })
  })

  it('counts only this run into the rates, and rows where they are known', () => {
    const start = { records: 500, tokens: 5000, truncated: 0, skipped: 0, position: 500, inputBytes: 0 }
    const now = { ...start, records: 600, tokens: 6000, position: 600 }
    expect(toBulkProgress({ start, now, elapsedMs: 1000, totalRecords: 1000, totalBytes: 77 })).toMatchObject(
      {
        records: 600,
        totalRecords: 1000,
        recordsPerSecond: 100,
        tokensPerSecond: 1000,
        doneRatio: 0.6,
        remainingMs: 4000,
      },
    )
  })

  it('promises nothing before the first batch or for stdin', () => {
    const first = toBulkProgress({
      start: zero,
      now: zero,
      elapsedMs: 0,
      totalRecords: undefined,
      totalBytes: 9,
    })
    expect(first).not.toHaveProperty('remainingMs')
    expect(first).toMatchObject({ recordsPerSecond: 0, doneRatio: 0 })
    const now = { ...zero, records: 5, position: 5 }
    const stdin = toBulkProgress({
      start: zero,
      now,
      elapsedMs: 10,
      totalRecords: undefined,
      totalBytes: undefined,
    })
    expect(stdin).not.toHaveProperty('remainingMs')
    expect(stdin).not.toHaveProperty('doneRatio')
  })
})
