import { beforeAll, describe, expect, it } from 'vitest'
import { canCompile, compileNative } from '../../../test/fakes/native-library.ts'
import { loadLibrary } from '../ffi/library.ts'
import { GpuMonitor } from './gpu-monitor.ts'
import type { GpuSample } from './gpu-sample.ts'

const noJetson = () => undefined

describe.skipIf(!canCompile)('the monitor, over NVML from C', () => {
  let nvmlPath: string
  let throttle: (reasons: number) => void
  beforeAll(() => {
    nvmlPath = compileNative('nvml')
    throttle = loadLibrary(nvmlPath).declare<[number], void>('void fake_throttle(unsigned long long reasons)')
  })

  it('tells what each GPU does, and nothing where it does not know', () => {
    using monitor = new GpuMonitor({ nvmlPath, readJetson: noJetson })
    const [gpu, slice, ...more] = monitor.read()
    expect(gpu).toEqual({
      uuid: 'GPU-f0efeeed-eceb-eae9-e8e7-e6e5e4e3e2e1',
      utilisation: 0.93,
      memoryUtilisation: 0.41,
      usedBytes: 92 * 2 ** 30,
      totalBytes: 192 * 2 ** 30,
      clockMhz: 1755,
      memoryClockMhz: undefined,
      powerWatts: 612.345,
      powerLimitWatts: 700,
      temperatureCelsius: 64,
      throttleReasons: ['power limit'],
    })
    expect(slice!.uuid).toBe('MIG-slice')
    expect(Object.values(slice!).filter((value) => value !== undefined)).toEqual(['MIG-slice'])
    expect(more).toEqual([])
  })

  it('samples at most once a second, or as often as asked', () => {
    let nowMs = 0
    using monitor = new GpuMonitor({ nvmlPath, readJetson: noJetson, nowMs: () => nowMs })
    throttle(0x4)
    const first = monitor.read()
    throttle(0x21)
    nowMs = 999
    expect(monitor.read()).toBe(first)
    nowMs = 1000
    expect(monitor.read()[0]!.throttleReasons).toEqual(['idle', 'thermal limit'])
    using often = new GpuMonitor({ nvmlPath, sampleMs: 10, readJetson: noJetson, nowMs: () => nowMs })
    often.read()
    throttle(0x4)
    nowMs += 10
    expect(often.read()[0]!.throttleReasons).toEqual(['power limit'])
  })

  it('opens NVML once and closes it', () => {
    const openCount = loadLibrary(nvmlPath).declare<[], number>('int fake_open_count()')
    {
      using monitor = new GpuMonitor({ nvmlPath, readJetson: noJetson, nowMs: () => 0 })
      monitor.read()
      expect(openCount()).toBe(1)
    }
    expect(openCount()).toBe(0)
  })
})

it('falls back to a Jetson’s files, and is empty where there is no GPU', () => {
  const jetson = { uuid: 'jetson', utilisation: 0.5 } as GpuSample
  using orin = new GpuMonitor({ nvmlPath: undefined, readJetson: () => jetson })
  expect(orin.read()).toEqual([jetson])
  using broken = new GpuMonitor({ nvmlPath: '/absent/libnvidia-ml.so.1', readJetson: noJetson })
  expect(broken.read()).toEqual([])
})
