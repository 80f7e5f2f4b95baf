/** A recording's sums: what the tables show, the criteria judge and the JSON keeps. */
import type { GpuActivity, Interval } from '../../hardware/gpu/activity.ts'
import { type BusyTime, listDeviceWork, measureBusyTime, sumDurations } from './busy-time.ts'
import { classifyTimes, type KernelClassRow } from './kernel-classes.ts'
import { type MemcpySummaryRow, summariseMemcpys } from './memcpy-summary.ts'
import { summarisePauses } from './pauses.ts'
import { summariseApiCalls, summariseKernels, type TimeSummaryRow } from './time-summary.ts'

export interface GpuProfile {
  /** Utilisation is its busyRatio. */
  readonly busy: BusyTime
  readonly kernels: readonly TimeSummaryRow[]
  readonly classes: readonly KernelClassRow[]
  readonly memcpys: readonly MemcpySummaryRow[]
  /** By what comes before and after; those at the ends of the window are not among them. */
  readonly pauses: readonly TimeSummaryRow[]
  /** Empty unless they were recorded. */
  readonly apiCalls: readonly TimeSummaryRow[]
  /** Times of all work by the busy time: above 1 where work ran side by side. With programmatic dependent launch a kernel's
   * time begins while it still waits for the one before, so times of kernels hold waiting then. */
  readonly overlapRatio: number
  /** Of all kernels, those in CUDA graphs: 0 to 1. */
  readonly graphRatio: number
  readonly droppedRecords: number
}

/** @param window of the workload, on the recording's clock; default: from the first work to the last */
export function summariseGpu(activity: GpuActivity, window?: Interval): GpuProfile {
  const { kernels, droppedRecords } = activity
  const rows = summariseKernels(activity)
  const work = listDeviceWork(activity)
  const busy = measureBusyTime(work, window)
  return {
    busy,
    kernels: rows,
    classes: classifyTimes(rows),
    memcpys: summariseMemcpys(activity),
    pauses: summarisePauses(activity),
    apiCalls: summariseApiCalls(activity),
    overlapRatio: busy.busyNs === 0 ? 1 : sumDurations(work) / busy.busyNs,
    graphRatio:
      kernels.length === 0 ? 0 : kernels.filter(({ graph }) => graph !== undefined).length / kernels.length,
    droppedRecords,
  }
}

/** Between two moments on the clock of performance.now(); work that began in it belongs to it whole. */
export function cutActivity(activity: GpuActivity, fromMs: number, toMs: number): GpuActivity {
  const { startNs, endNs } = toWindow(activity, fromMs, toMs)
  const own = <Item extends Interval>(items: readonly Item[]) =>
    items.filter((item) => item.startNs >= startNs && item.startNs < endNs)
  return {
    ...activity,
    kernels: own(activity.kernels),
    memcpys: own(activity.memcpys),
    memsets: own(activity.memsets),
    apiCalls: own(activity.apiCalls),
  }
}

/** Moments on the clock of performance.now() as the recording counts time. */
export function toWindow({ startedMs }: GpuActivity, fromMs: number, toMs: number): Interval {
  return { startNs: (fromMs - startedMs) * 1e6, endNs: (toMs - startedMs) * 1e6 }
}
