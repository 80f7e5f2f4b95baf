/** Copies by the memories they run between: bytes, speed, share of the GPU's time. */
import type { GpuActivity, MemcpyRecord, MemoryKind } from '../../hardware/gpu/activity.ts'
import { listDeviceWork, measureBusyTime, sumDurations } from './busy-time.ts'
import { groupBy } from './group-by.ts'

export interface MemcpySummaryRow {
  /** 'host to device' */
  readonly direction: string
  /** Of the host's side: pageable memory is copied twice. 'device' where no host is concerned. */
  readonly hostMemory: MemoryKind
  readonly count: number
  readonly totalBytes: number
  readonly totalNs: number
  /** Bytes by the time of the copies themselves. */
  readonly gbPerSecond: number
  /** Of the time in which the GPU works; 0 to 1. */
  readonly share: number
}

/** One row a direction and host memory, the one with the largest time first. */
export function summariseMemcpys(
  activity: Pick<GpuActivity, 'kernels' | 'memcpys' | 'memsets'>,
): MemcpySummaryRow[] {
  const groups = groupBy(activity.memcpys, (copy) => `${directionOf(copy)} ${hostMemoryOf(copy)}`)
  const { busyNs } = measureBusyTime(listDeviceWork(activity))
  return [...groups.values()]
    .map((copies) => {
      const totalBytes = copies.reduce((sum, { bytes }) => sum + bytes, 0)
      const totalNs = sumDurations(copies)
      return {
        direction: directionOf(copies[0]!),
        hostMemory: hostMemoryOf(copies[0]!),
        count: copies.length,
        totalBytes,
        totalNs,
        gbPerSecond: totalNs === 0 ? 0 : totalBytes / totalNs,
        share: busyNs === 0 ? 0 : totalNs / busyNs,
      }
    })
    .sort((a, b) => b.totalNs - a.totalNs)
}

function directionOf({ source, destination }: MemcpyRecord): string {
  return `${sideOf(source)} to ${sideOf(destination)}`
}

function hostMemoryOf({ source, destination }: MemcpyRecord): MemoryKind {
  return [source, destination].find((memory) => sideOf(memory) === 'host') ?? 'device'
}

function sideOf(memory: MemoryKind): 'host' | 'device' {
  return memory === 'pageable' || memory === 'pinned' ? 'host' : 'device'
}
