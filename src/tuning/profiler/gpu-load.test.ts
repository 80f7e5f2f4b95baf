import { describe, expect, it } from 'vitest'
import type { GpuSample } from '../../hardware/machine/gpu-sample.ts'
import { formatGpuLoad, GpuLoadRecorder } from './gpu-load.ts'

const sample = (parts: Partial<GpuSample>): GpuSample => ({
  uuid: 'GPU-1',
  utilisation: undefined,
  memoryUtilisation: undefined,
  usedBytes: undefined,
  totalBytes: undefined,
  clockMhz: undefined,
  memoryClockMhz: undefined,
  powerWatts: undefined,
  powerLimitWatts: undefined,
  temperatureCelsius: undefined,
  throttleReasons: undefined,
  ...parts,
})
const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

describe('the load of GPUs', () => {
  it('is a mean over the samples of each, or the most', async () => {
    const first = { utilisation: 0.9, powerWatts: 500, powerLimitWatts: 700, usedBytes: 10, clockMhz: 1700 }
    const series: (readonly GpuSample[])[] = [
      [sample({ ...first, temperatureCelsius: 60, throttleReasons: [] }), sample({ uuid: 'MIG-slice' })],
      [
        sample({
          ...first,
          utilisation: 1,
          usedBytes: 7,
          temperatureCelsius: 64,
          throttleReasons: ['power limit'],
        }),
      ],
    ]
    const recorder = new GpuLoadRecorder(() => series.shift() ?? [], 5)
    await expect.poll(() => series.length).toBe(0)
    const [gpu, slice, ...more] = recorder.stop()
    expect(gpu).toEqual({
      ...first,
      uuid: 'GPU-1',
      samples: 2,
      utilisation: 0.95,
      temperatureCelsius: 64,
      throttleReasons: ['power limit'],
    })
    expect(formatGpuLoad(gpu!)).toBe(
      'driver, GPU-1: 95 % busy, 1700 MHz, 500 of 700 W, 64 °C, held back by power limit',
    )
    expect(formatGpuLoad(slice!)).toBe('driver, MIG-slice: tells nothing')
    expect(more).toEqual([])
  })

  it('takes no sample after the end, and none of a short run', async () => {
    let reads = 0
    const recorder = new GpuLoadRecorder(() => {
      reads++
      return []
    }, 5)
    expect(recorder.stop()).toEqual([])
    await wait(20)
    expect(reads).toBe(0)
  })
})
