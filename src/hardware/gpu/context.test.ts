import { expect, it } from 'vitest'
import { FakeCudaDriver } from '../../../test/fakes/cuda-driver.ts'
import { failureOf, thrownBy } from '../../../test/fakes/failure.ts'
import { expectClean, nothingLive, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { openGpu } from './context.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { GpuEvent } from './event.ts'
import { PinnedBuffer } from './pinned-buffer.ts'
import { GpuStream } from './stream.ts'

it('tells what the GPU is and how much memory is free', async () => {
  const fake = await openFakeGpu({ totalBytes: 1000, deviceCount: 2 })
  const { gpu } = fake
  expect(gpu.device).toEqual({
    ordinal: 0,
    name: 'Fake GPU',
    uuid: 'GPU-00102030-4050-6070-8090-a0b0c0d0e0f0',
    computeCapability: { major: 9, minor: 0 },
    totalBytes: 1000,
    isIntegrated: false,
    multiprocessorCount: 132,
    maxClockMhz: 1980,
    maxMemoryClockMhz: 2619,
    memoryBusBits: 5120,
    l2CacheBytes: 50 << 20,
    copyEngineCount: 3,
    maxSharedBytesPerBlock: 227 << 10,
  })
  expect(new DeviceBuffer(gpu, 'some', 300).bytes).toBe(300)
  expect(gpu.readMemory()).toEqual({ freeBytes: 700, totalBytes: 1000 })
  expectClean(fake)
})

it('frees everything on it, children first, and once', async () => {
  const fake = await openFakeGpu()
  const { gpu, driver } = fake
  const buffer = new DeviceBuffer(gpu, 'a', 16)
  const gone = new DeviceBuffer(gpu, 'freed before', 16)
  expect(
    [new PinnedBuffer(gpu, 'b', 16), new GpuStream(gpu, 's'), new GpuEvent(gpu, { timing: true })].length,
  ).toBe(3)
  gone[Symbol.dispose]()
  gone[Symbol.dispose]()
  expect(driver.live).toEqual({
    ...nothingLive,
    contexts: 1,
    deviceBuffers: 1,
    pinnedBuffers: 1,
    streams: 1,
    events: 1,
  })
  expectClean(fake)
  buffer[Symbol.dispose]()
  gpu[Symbol.dispose]()
  expect([driver.calls('cuMemFree_v2'), driver.calls('cuDevicePrimaryCtxRelease_v2')]).toEqual([2, 1])
})

it('refuses what is freed, before the driver sees it', async () => {
  const fake = await openFakeGpu()
  const { gpu, driver } = fake
  const [device, pinned, stream, event] = [
    new DeviceBuffer(gpu, 'logits', 16),
    new PinnedBuffer(gpu, 'ids', 16),
    new GpuStream(gpu, 'compute'),
    new GpuEvent(gpu, { timing: false }),
  ]
  for (const resource of [device, pinned, event]) resource[Symbol.dispose]()
  for (const [use, resource] of [
    [() => device.handle, "the device buffer 'logits'"],
    [() => pinned.memory, "the pinned buffer 'ids'"],
    [() => pinned.float32(), "the pinned buffer 'ids'"],
    [() => pinned.devicePointer, "the pinned buffer 'ids'"],
    [() => stream.copy(device, pinned), "the device buffer 'logits'"],
    [() => stream.setBytes(device, 0), "the device buffer 'logits'"],
    [() => stream.waitFor(event), 'an event'],
    [() => event.record(stream), 'an event'],
  ] as const) {
    expect(thrownBy(use)).toMatchObject({ code: 'USED_AFTER_FREE', details: { resource } })
  }
  gpu[Symbol.dispose]()
  expect(thrownBy(() => new DeviceBuffer(gpu, 'late', 16))).toMatchObject({ details: { resource: 'GPU 0' } })
  expect(driver.violations).toEqual([])
  expectClean(fake)
})

it('keeps two GPUs apart: each call is made in its own context', async () => {
  const driver = new FakeCudaDriver({ deviceCount: 2 })
  const first = await openGpu(driver.api, { ordinal: 0 })
  const second = await openGpu(driver.api, { ordinal: 1 })
  const contexts: unknown[] = []
  const setCurrent = driver.api.cuCtxSetCurrent
  Object.assign(driver.api, {
    cuCtxSetCurrent: (context: typeof first.handle) => {
      contexts.push(context)
      setCurrent(context)
    },
  })
  const buffer = new DeviceBuffer(first, 'first', 16)
  expect(new DeviceBuffer(second, 'second', 16).isFreed).toBe(false)
  buffer[Symbol.dispose]()
  expect(contexts).toEqual([first.handle, second.handle, first.handle])
  second[Symbol.dispose]()
  first[Symbol.dispose]()
  expect([driver.live, driver.violations]).toEqual([nothingLive, []])
})

it('says why there is no GPU', async () => {
  const none = await failureOf(openGpu(new FakeCudaDriver({ deviceCount: 0 }).api))
  expect([none.code, none.message]).toEqual([
    'GPU_UNAVAILABLE',
    "no GPU can be used: CUDA's cuInit answered 100 CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected; check that 'nvidia-smi' shows a GPU and that this process may use it (a container: --gpus all)",
  ])
  const other = await failureOf(openGpu(new FakeCudaDriver({ deviceCount: 2 }).api, { ordinal: 2 }))
  expect(other.message).toContain('GPU 2 was asked for, the driver shows 2; take one from 0 to 1')
})

it('leaves nothing behind when the GPU breaks half-way', async () => {
  const { gpu, driver } = await openFakeGpu()
  expect(new DeviceBuffer(gpu, 'a', 16).isFreed).toBe(false)
  const buffer = new DeviceBuffer(gpu, 'b', 16)
  driver.breakGpu(700)
  // Each free fails once with the first failure's words, and is not tried again.
  expect(thrownBy(() => gpu[Symbol.dispose]())).toMatchObject({
    code: 'CUDA_STATUS',
    details: { status: 700 },
  })
  expect([gpu.isFreed, buffer.isFreed]).toEqual([true, true])
  const calls = driver.calls('cuCtxSetCurrent')
  gpu[Symbol.dispose]()
  expect(driver.calls('cuCtxSetCurrent')).toBe(calls)
})
