import { describe, expect, it } from 'vitest'
import { listDeviceWork, measureBusyTime, mergeIntervals } from './busy-time.ts'
import { makeActivity, makeKernel, makeMemcpy } from '../../../test/fixtures/gpu-activity.ts'

const at = (startNs: number, endNs: number) => ({ startNs, endNs })

describe('the union of intervals', () => {
  it('counts what overlaps once, what lies inside not at all', () => {
    expect(mergeIntervals([at(0, 10), at(5, 15), at(6, 8), at(20, 30)])).toEqual([at(0, 15), at(20, 30)])
  })

  it('joins work that follows without a pause, in any order', () => {
    expect(mergeIntervals([at(10, 20), at(0, 10)])).toEqual([at(0, 20)])
  })
})

describe('busy time', () => {
  it('from the first work to the last, with its gaps', () => {
    expect(measureBusyTime([at(100, 110), at(105, 120), at(130, 140), at(160, 200)])).toEqual({
      spanNs: 100,
      busyNs: 70,
      busyRatio: 0.7,
      gapNs: 30,
      launchGapNs: 30,
      hostGapNs: 0,
      gaps: 2,
      medianGapNs: 20,
      longestGapNs: 20,
    })
  })

  it('of a window: work is cut at its ends, the idle time there counts', () => {
    const work = [at(0, 10), at(50, 60), at(95, 120), at(200, 300)]
    expect(measureBusyTime(work, at(5, 105))).toMatchObject({ spanNs: 100, busyNs: 25, gapNs: 75, gaps: 2 })
  })

  it('tells pauses between kernels from those between batches', () => {
    const work = [at(0, 1000), at(6000, 7000), at(27_000, 30_000), at(80_000, 90_000)]
    expect(measureBusyTime(work)).toMatchObject({ gapNs: 75_000, launchGapNs: 25_000, hostGapNs: 50_000 })
    // The ends of the window are the host's.
    expect(measureBusyTime([at(5000, 6000)], at(0, 10_000))).toMatchObject({
      launchGapNs: 0,
      hostGapNs: 9000,
    })
  })

  it('of nothing is nothing', () => {
    expect(measureBusyTime([])).toMatchObject({ spanNs: 0, busyNs: 0, busyRatio: 0 })
    expect(measureBusyTime([], at(0, 10))).toMatchObject({ spanNs: 10, busyNs: 0, gapNs: 10 })
  })

  it('copies and fills keep the GPU busy as kernels do', () => {
    const { deviceId, streamId, correlationId } = makeKernel()
    const activity = makeActivity({
      kernels: [makeKernel({ startNs: 20, endNs: 30 })],
      memcpys: [makeMemcpy({ startNs: 0, endNs: 10 })],
      memsets: [{ deviceId, streamId, correlationId, startNs: 10, endNs: 15, bytes: 4, memory: 'device' }],
      // A call is the host's time.
      apiCalls: [{ name: 'cuLaunchKernel', startNs: 0, endNs: 100, threadId: 1, correlationId: 1 }],
    })
    expect(measureBusyTime(listDeviceWork(activity))).toMatchObject({ spanNs: 30, busyNs: 25, gaps: 1 })
  })
})
