/** Many durations under few names as a table, with the columns of `nsys stats` (cuda_gpu_kern_sum, cuda_api_sum). */
import type { ApiRecord, GpuActivity, Interval } from '../../hardware/gpu/activity.ts'
import { groupBy } from './group-by.ts'

export interface TimeSummaryRow {
  readonly name: string
  /** Of all rows' total; 0 to 100. */
  readonly timePercent: number
  readonly totalNs: number
  readonly instances: number
  readonly avgNs: number
  readonly medNs: number
  readonly minNs: number
  readonly maxNs: number
  /** Of the sample, as nsys has it; 0 for one instance. */
  readonly stddevNs: number
}

export interface NamedDuration {
  readonly name: string
  readonly durationNs: number
}

/** One row a name, the one with the largest total first. */
export function summariseTimes(items: Iterable<NamedDuration>): TimeSummaryRow[] {
  const rows = [...groupBy(items, ({ name }) => name)].map(([name, group]) =>
    toRow(
      name,
      group.map(({ durationNs }) => durationNs),
    ),
  )
  const allNs = rows.reduce((sum, { totalNs }) => sum + totalNs, 0)
  return rows
    .map((row) => ({ ...row, timePercent: allNs === 0 ? 0 : (100 * row.totalNs) / allNs }))
    .sort((a, b) => b.totalNs - a.totalNs || a.name.localeCompare(b.name))
}

/** nsys' cuda_gpu_kern_sum. */
export function summariseKernels({ kernels }: Pick<GpuActivity, 'kernels'>): TimeSummaryRow[] {
  return summariseTimes(kernels.map(toDuration))
}

/** nsys' cuda_api_sum. */
export function summariseApiCalls({ apiCalls }: Pick<GpuActivity, 'apiCalls'>): TimeSummaryRow[] {
  return summariseTimes(apiCalls.map((call) => ({ ...toDuration(call), name: withoutVersion(call) })))
}

function toDuration({ name, startNs, endNs }: Interval & { readonly name: string }): NamedDuration {
  return { name, durationNs: endNs - startNs }
}

/** 'cudaLaunchKernel_v7000' -> 'cudaLaunchKernel', as nsys tells it; 'cuMemAlloc_v2' is the symbol's own name. */
function withoutVersion({ name }: ApiRecord): string {
  return name.replace(/_v\d{4,}$/, '')
}

function toRow(name: string, durations: readonly number[]): Omit<TimeSummaryRow, 'timePercent'> {
  const sorted = durations.toSorted((a, b) => a - b)
  const count = sorted.length
  const totalNs = sorted.reduce((sum, ns) => sum + ns, 0)
  const avgNs = totalNs / count
  const squares = sorted.reduce((sum, ns) => sum + (ns - avgNs) ** 2, 0)
  const middle = count >> 1
  return {
    name,
    totalNs,
    instances: count,
    avgNs,
    medNs: count % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2,
    minNs: sorted[0]!,
    maxNs: sorted.at(-1)!,
    stddevNs: count === 1 ? 0 : Math.sqrt(squares / (count - 1)),
  }
}
