/** How much of a time the GPU worked: overlapping work counts once. */
import type { GpuActivity, Interval } from '../../hardware/gpu/activity.ts'

export interface BusyTime {
  /** From the start of the first work to the end of the last, or the window asked about. */
  readonly spanNs: number
  /** Of which something ran. */
  readonly busyNs: number
  /** busyNs / spanNs; 0 of nothing. */
  readonly busyRatio: number
  /** spanNs - busyNs, which is launchGapNs + hostGapNs. */
  readonly gapNs: number
  /** Of short pauses: from one kernel of a batch to the next. */
  readonly launchGapNs: number
  /** Of long ones, and of idle ends of the window: the GPU waits for the host's next batch. */
  readonly hostGapNs: number
  /** Pauses between work. */
  readonly gaps: number
  readonly medianGapNs: number
  readonly longestGapNs: number
}

/** A launch takes some 5 us (H100), a turn of a batch on the host 40 us and more. */
const longestLaunchGapNs = 20_000

/** All that keeps the GPU busy, in order of its start. */
export function listDeviceWork({
  kernels,
  memcpys,
  memsets,
}: Pick<GpuActivity, 'kernels' | 'memcpys' | 'memsets'>): Interval[] {
  return [...kernels, ...memcpys, ...memsets].sort((a, b) => a.startNs - b.startNs)
}

/** @param window counts what lies inside it, and the idle time at its ends too */
export function measureBusyTime(work: readonly Interval[], window?: Interval): BusyTime {
  const busy = mergeIntervals(window === undefined ? work : clip(work, window))
  const spanNs =
    window === undefined ? (busy.at(-1)?.endNs ?? 0) - (busy[0]?.startNs ?? 0) : window.endNs - window.startNs
  const busyNs = sumDurations(busy)
  const gaps = busy.slice(1).map(({ startNs }, i) => startNs - busy[i]!.endNs)
  const sorted = gaps.sort((a, b) => a - b)
  const launchGapNs = gaps.reduce((sum, ns) => (ns <= longestLaunchGapNs ? sum + ns : sum), 0)
  return {
    spanNs,
    busyNs,
    busyRatio: spanNs === 0 ? 0 : busyNs / spanNs,
    gapNs: spanNs - busyNs,
    launchGapNs,
    hostGapNs: spanNs - busyNs - launchGapNs,
    gaps: sorted.length,
    medianGapNs: sorted[sorted.length >> 1] ?? 0,
    longestGapNs: sorted.at(-1) ?? 0,
  }
}

/** The union: disjoint, in order. Work that begins as other work ends is one with it. */
export function mergeIntervals(intervals: readonly Interval[]): Interval[] {
  const merged: { startNs: number; endNs: number }[] = []
  for (const { startNs, endNs } of intervals.toSorted((a, b) => a.startNs - b.startNs)) {
    const last = merged.at(-1)
    if (last !== undefined && startNs <= last.endNs) last.endNs = Math.max(last.endNs, endNs)
    else merged.push({ startNs, endNs })
  }
  return merged
}

function clip(work: readonly Interval[], { startNs, endNs }: Interval): Interval[] {
  return work
    .filter((each) => each.endNs > startNs && each.startNs < endNs)
    .map((each) => ({ startNs: Math.max(each.startNs, startNs), endNs: Math.min(each.endNs, endNs) }))
}

/** Of all, overlap or not. */
export function sumDurations(intervals: readonly Interval[]): number {
  return intervals.reduce((sum, { startNs, endNs }) => sum + endNs - startNs, 0)
}
