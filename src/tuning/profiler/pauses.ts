/** What the GPU did before each pause and after it: where it waits, and for what. */
import type { GpuActivity, Interval, MemcpyRecord, MemsetRecord } from '../../hardware/gpu/activity.ts'
import { type NamedDuration, summariseTimes, type TimeSummaryRow } from './time-summary.ts'

interface NamedWork extends Interval {
  readonly name: string
}

/** Pauses by their neighbours, 'memcpy pinned to device -> residual_rmsnorm', the largest total first. */
export function summarisePauses(
  activity: Pick<GpuActivity, 'kernels' | 'memcpys' | 'memsets'>,
): TimeSummaryRow[] {
  const pauses: NamedDuration[] = []
  let last: NamedWork | undefined
  for (const work of listNamedWork(activity)) {
    if (last !== undefined && work.startNs > last.endNs) {
      pauses.push({ name: `${last.name} -> ${work.name}`, durationNs: work.startNs - last.endNs })
    }
    if (last === undefined || work.endNs > last.endNs) last = work
  }
  return summariseTimes(pauses)
}

/** In order of its start. */
export function listNamedWork({
  kernels,
  memcpys,
  memsets,
}: Pick<GpuActivity, 'kernels' | 'memcpys' | 'memsets'>): NamedWork[] {
  return [
    ...kernels,
    ...memcpys.map((copy) => ({ ...copy, name: nameMemcpy(copy) })),
    ...memsets.map((fill) => ({ ...fill, name: nameMemset(fill) })),
  ].sort((a, b) => a.startNs - b.startNs)
}

export function nameMemcpy({ source, destination }: MemcpyRecord): string {
  return `memcpy ${source} to ${destination}`
}

export function nameMemset({ memory }: MemsetRecord): string {
  return `memset ${memory}`
}
