import { expect, it } from 'vitest'
import { summariseApiCalls, summariseKernels, summariseTimes } from './time-summary.ts'
import { makeActivity, makeKernel } from '../../../test/fixtures/gpu-activity.ts'

it('has the columns of nsys stats, the largest total first', () => {
  const durations = [
    ...[10, 20, 30, 60].map((durationNs) => ({ name: 'gemm', durationNs })),
    { name: 'norm', durationNs: 200 },
    { name: 'copy', durationNs: 80 },
  ]
  const [norm, gemm, copy] = summariseTimes(durations)
  expect(norm).toEqual({
    name: 'norm',
    timePercent: 50,
    totalNs: 200,
    instances: 1,
    avgNs: 200,
    medNs: 200,
    minNs: 200,
    maxNs: 200,
    stddevNs: 0,
  })
  // Sample deviation: sqrt((20² + 10² + 0² + 30²) / 3).
  expect(gemm).toMatchObject({
    name: 'gemm',
    timePercent: 30,
    totalNs: 120,
    instances: 4,
    avgNs: 30,
    medNs: 25,
  })
  expect(gemm).toMatchObject({ minNs: 10, maxNs: 60 })
  expect(gemm!.stddevNs).toBeCloseTo(Math.sqrt(1400 / 3), 9)
  expect(copy!.timePercent).toBe(20)
})

it('the order in which durations come does not matter', () => {
  const [row] = summariseTimes([30, 10, 20].map((durationNs) => ({ name: 'k', durationNs })))
  expect(row).toMatchObject({ medNs: 20, minNs: 10, maxNs: 30 })
})

it('kernels by their time on the GPU', () => {
  const activity = makeActivity({
    kernels: [
      makeKernel({ name: 'swiglu', startNs: 100, endNs: 150 }),
      makeKernel({ name: 'flash_attention', startNs: 200, endNs: 350 }),
    ],
  })
  expect(summariseKernels(activity).map(({ name, timePercent }) => [name, timePercent])).toEqual([
    ['flash_attention', 75],
    ['swiglu', 25],
  ])
})

it("API calls under nsys' names", () => {
  const rows = summariseApiCalls({
    apiCalls: [
      call('cudaLaunchKernel_v7000', 5),
      call('cudaLaunchKernel', 6),
      call('cuMemcpyHtoDAsync_v2', 4),
    ],
  })
  expect(rows.map(({ name, instances }) => [name, instances])).toEqual([
    ['cudaLaunchKernel', 2],
    ['cuMemcpyHtoDAsync_v2', 1],
  ])
})

it('nothing makes no rows; times of zero no NaN', () => {
  expect(summariseTimes([])).toEqual([])
  expect(summariseTimes([{ name: 'k', durationNs: 0 }])[0]!.timePercent).toBe(0)
})

function call(name: string, durationNs: number) {
  return { name, startNs: 0, endNs: durationNs, threadId: 1, correlationId: 1 }
}
