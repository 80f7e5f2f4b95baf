import { expect, it } from 'vitest'
import { formatKernelClasses, formatMemcpys, formatTimes } from './format-profile.ts'
import { summariseTimes } from './time-summary.ts'

it("times stand in nsys' columns, what does not fit is summed up", () => {
  const rows = summariseTimes([
    { name: 'gemm', durationNs: 75_000 },
    { name: 'norm', durationNs: 15_000 },
    { name: 'x'.repeat(200), durationNs: 6_000 },
    { name: 'copy', durationNs: 4_000 },
  ])
  const lines = formatTimes(rows, 3).split('\n')
  expect(lines[0]).toBe('Time %  Total us  Instances  Avg us  Med us  Min us  Max us  StdDev us  Name')
  expect(lines[1]).toBe('  75.0      75.0          1   75.00   75.00   75.00   75.00       0.00  gemm')
  expect(lines[3]).toMatch(/ {2}x{89}…$/)
  expect(lines[4]).toBe('   4.0  in 1 more')
  expect(formatTimes(rows).split('\n')).toHaveLength(5)
})

it('classes and copies', () => {
  expect(
    formatKernelClasses([{ kernelClass: 'FP8 GEMM', share: 0.705, totalNs: 1_234_500, instances: 144 }]),
  ).toBe('Time %  Total us  Instances  Class\n  70.5    1234.5        144  FP8 GEMM')
  const copy = { direction: 'host to device', hostMemory: 'pinned', count: 2, totalBytes: 4096 } as const
  const table = formatMemcpys([
    { ...copy, totalNs: 2000, gbPerSecond: 2.048, share: 0.012 },
    { ...copy, direction: 'device to device', hostMemory: 'device', totalNs: 2000, gbPerSecond: 1, share: 0 },
  ])
  expect(table).toContain('1.20       2.0      2    4   2.0  host to device, pinned')
  expect(table).toMatch(/ {2}device to device$/)
})
