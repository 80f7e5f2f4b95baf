/** A profile's tables for people. */
import type { BusyTime } from './busy-time.ts'
import type { KernelClassRow } from './kernel-classes.ts'
import type { MemcpySummaryRow } from './memcpy-summary.ts'
import type { TimeSummaryRow } from './time-summary.ts'

/** C++ names fill pages. */
const maxNameChars = 90

/** nsys' columns. @param maxRows what comes after is one line that sums it up */
export function formatTimes(rows: readonly TimeSummaryRow[], maxRows = 25): string {
  const head = [
    'Time %',
    'Total us',
    'Instances',
    'Avg us',
    'Med us',
    'Min us',
    'Max us',
    'StdDev us',
    'Name',
  ]
  const cells = rows
    .slice(0, maxRows)
    .map((row) => [
      row.timePercent.toFixed(1),
      toUs(row.totalNs, 1),
      String(row.instances),
      ...[row.avgNs, row.medNs, row.minNs, row.maxNs, row.stddevNs].map((ns) => toUs(ns, 2)),
      row.name.length > maxNameChars ? `${row.name.slice(0, maxNameChars - 1)}…` : row.name,
    ])
  const rest = rows.slice(maxRows)
  const restPercent = rest.reduce((sum, { timePercent }) => sum + timePercent, 0)
  return (
    alignColumns([head, ...cells]) +
    (rest.length === 0 ? '' : `\n${restPercent.toFixed(1).padStart(6)}  in ${rest.length} more`)
  )
}

export function formatKernelClasses(rows: readonly KernelClassRow[]): string {
  return alignColumns([
    ['Time %', 'Total us', 'Instances', 'Class'],
    ...rows.map(({ share, totalNs, instances, kernelClass }) => [
      (100 * share).toFixed(1),
      toUs(totalNs, 1),
      String(instances),
      kernelClass,
    ]),
  ])
}

export function formatMemcpys(rows: readonly MemcpySummaryRow[]): string {
  return alignColumns([
    ['Time %', 'Total us', 'Count', 'KiB', 'GB/s', 'Copies'],
    ...rows.map((row) => [
      (100 * row.share).toFixed(2),
      toUs(row.totalNs, 1),
      String(row.count),
      (row.totalBytes / 1024).toFixed(0),
      row.gbPerSecond.toFixed(1),
      `${row.direction}${row.hostMemory === 'device' ? '' : `, ${row.hostMemory}`}`,
    ]),
  ])
}

export function formatBusyTime(busy: BusyTime): string {
  return `GPU busy ${(100 * busy.busyRatio).toFixed(1)} % of ${toUs(busy.spanNs, 1)} us; ${busy.gaps} pauses, median ${toUs(busy.medianGapNs, 2)} us, longest ${toUs(busy.longestGapNs, 1)} us`
}

function toUs(ns: number, digits: number): string {
  return (ns / 1e3).toFixed(digits)
}

/** Numbers to the right, the last column to the left. */
export function alignColumns(lines: readonly (readonly string[])[]): string {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return lines
    .map((line) =>
      line.map((cell, i) => (i === line.length - 1 ? cell : cell.padStart(widths[i]!))).join('  '),
    )
    .join('\n')
}
