import { expect, it } from 'vitest'
import { cutActivity, summariseGpu, toWindow } from './gpu-profile.ts'
import { makeActivity, makeKernel, makeMemcpy } from '../../../test/fixtures/gpu-activity.ts'

const activity = makeActivity({
  startedMs: 1000,
  kernels: [
    makeKernel({ name: 'warm-up', startNs: 500_000, endNs: 600_000 }),
    makeKernel({ name: 'nvjet_qqtst_x', startNs: 1_000_000, endNs: 1_600_000, graph: { id: 1, nodeId: 2 } }),
    makeKernel({ name: 'swiglu', startNs: 1_600_000, endNs: 1_800_000 }),
  ],
  memcpys: [makeMemcpy({ startNs: 900_000, endNs: 1_000_000 })],
  droppedRecords: 3,
})

it('sums up a window of a recording, in milliseconds of the host', () => {
  const window = toWindow(activity, 1000.8, 1001.8)
  const cut = cutActivity(activity, 1000.8, 1001.8)
  const profile = summariseGpu(cut, window)
  expect(profile.busy.spanNs).toBeCloseTo(1_000_000)
  expect(profile.busy.busyRatio).toBeCloseTo(0.9)
  expect(profile.kernels.map(({ name }) => name)).toEqual(['nvjet_qqtst_x', 'swiglu'])
  expect(profile.classes.map(({ kernelClass }) => kernelClass)).toEqual(['FP8 GEMM', 'elementwise'])
  expect(profile).toMatchObject({ graphRatio: 0.5, droppedRecords: 3, memcpys: [{ count: 1 }], pauses: [] })
})

it('without a window, from the first work to the last', () => {
  const whole = summariseGpu(activity)
  expect(whole.busy.spanNs).toBe(1_300_000)
  expect(whole.pauses).toMatchObject([{ name: 'warm-up -> memcpy pinned to device', totalNs: 300_000 }])
  expect(summariseGpu(makeActivity())).toMatchObject({ graphRatio: 0, kernels: [] })
})

it('tells how far times of kernels hold others', () => {
  const kernels = [makeKernel({ startNs: 0, endNs: 100 }), makeKernel({ startNs: 50, endNs: 150 })]
  expect(summariseGpu(makeActivity({ kernels })).overlapRatio).toBeCloseTo(200 / 150)
  expect(summariseGpu(activity).overlapRatio).toBe(1)
  expect(summariseGpu(makeActivity()).overlapRatio).toBe(1)
})
