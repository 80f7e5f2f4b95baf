/** Device, pinned and staging buffers over the fake driver's real bytes. */
import { expect, it } from 'vitest'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { PinnedBuffer } from './pinned-buffer.ts'
import { StagingBuffer } from './staging-buffer.ts'
import { GpuStream } from './stream.ts'

it('copies the range asked for, there, across and back', async () => {
  const fake = await openFakeGpu()
  const { gpu, driver } = fake
  const stream = new GpuStream(gpu, 'copies')
  const [source, back] = [new PinnedBuffer(gpu, 'source', 16), new PinnedBuffer(gpu, 'back', 16)]
  const [a, b] = [new DeviceBuffer(gpu, 'a', 16), new DeviceBuffer(gpu, 'b', 16)]
  source.uint8().set(Array.from({ length: 16 }, (_, i) => i))
  stream.setBytes(b, 0xff)
  stream.copy(a, source)
  stream.copy(b, a, { bytes: 4, toByte: 8, fromByte: 2 })
  stream.copy(back, b)
  await stream.idle()
  expect([...driver.deviceBytes(a.handle, 16)]).toEqual([...source.uint8()])
  expect([...back.uint8()]).toEqual([
    ...Array<number>(8).fill(255),
    2,
    3,
    4,
    5,
    ...Array<number>(4).fill(255),
  ])
  expectClean(fake)
})

it('gives typed views of one memory, without a copy', async () => {
  const fake = await openFakeGpu()
  const pinned = new PinnedBuffer(fake.gpu, 'views', 32)
  pinned.float32(2, 8).set([1, -2])
  expect(pinned.float32().length).toBe(8)
  expect(new Uint32Array(pinned.memory)[2]).toBe(0x3f800000)
  expect(pinned.int32(1, 12)[0]).toBe(0xc0000000 | 0)
  expect(pinned.bigInt64(1, 8)[0]).toBe(BigInt.asIntN(64, 0xc00000003f800000n))
  expect(pinned.uint8(2, 10).buffer).toBe(pinned.memory)
  expectClean(fake)
})

it('refuses what reaches past a buffer', async () => {
  const fake = await openFakeGpu()
  const { gpu } = fake
  const stream = new GpuStream(gpu, 's')
  const [device, pinned] = [new DeviceBuffer(gpu, 'ids', 16), new PinnedBuffer(gpu, 'ids', 8)]
  for (const [use, message] of [
    [() => stream.copy(device, pinned), "bytes 0 to 16 of the pinned buffer 'ids', which has 8"],
    [
      () => stream.copy(device, pinned, { bytes: 8, toByte: 9 }),
      "bytes 9 to 17 of the device buffer 'ids', which has 16",
    ],
    [() => stream.copy(device, pinned, { bytes: 4, fromByte: -1 }), 'bytes -1 to 3'],
    [() => stream.setBytes(device, 0, 17), 'bytes 0 to 17'],
    [() => pinned.float32(3), "a view of bytes 0 to 12 of the pinned buffer 'ids', which has 8"],
    [() => stream.copy(pinned, pinned), "a copy between the pinned buffer 'ids'"],
  ] as const) {
    const error = thrownBy(use)
    expect([error.code, error.message]).toEqual(['INTERNAL', expect.stringContaining(message)])
  }
  expect(fake.driver.calls('cuMemcpyHtoDAsync_v2')).toBe(0)
  expectClean(fake)
})

it('stages through a twin on a GPU with its own memory', async () => {
  const fake = await openFakeGpu()
  const { gpu, driver } = fake
  const stream = new GpuStream(gpu, 's')
  const staging = new StagingBuffer(gpu, 'batch', 16)
  expect(staging.devicePointer).not.toBe(staging.host.handle)
  staging.host.int32().set([1, 2, 3, 4])
  staging.upload(stream, 8)
  await stream.idle()
  expect([...new Int32Array(driver.deviceBytes(staging.devicePointer, 8).slice().buffer)]).toEqual([1, 2])
  driver.deviceBytes(staging.devicePointer, 16).fill(7)
  staging.download(stream, 4)
  await stream.idle()
  expect([...staging.host.int32()]).toEqual([0x07070707, 2, 3, 4])
  staging[Symbol.dispose]()
  staging[Symbol.dispose]()
  expect(thrownBy(() => staging.devicePointer).code).toBe('USED_AFTER_FREE')
  expectClean(fake)
})

it('copies nothing on an integrated GPU: kernels see the host memory', async () => {
  const fake = await openFakeGpu({ isIntegrated: true })
  const { gpu, driver } = fake
  const stream = new GpuStream(gpu, 's')
  const staging = new StagingBuffer(gpu, 'batch', 16)
  staging.host.uint8().fill(9)
  staging.upload(stream)
  staging.download(stream)
  await stream.idle()
  expect([...driver.deviceBytes(staging.devicePointer, 16)]).toEqual(Array(16).fill(9))
  expect([driver.timeline.executed, driver.live.deviceBuffers]).toEqual([[], 0])
  staging[Symbol.dispose]()
  expect(thrownBy(() => staging.devicePointer).code).toBe('USED_AFTER_FREE')
  expectClean(fake)
})

it('says how much memory was needed and free, and keeps none of a half-made pair', async () => {
  const fake = await openFakeGpu({ totalBytes: 1000 })
  const { gpu, driver } = fake
  expect(new DeviceBuffer(gpu, 'weights', 600).bytes).toBe(600)
  const error = thrownBy(() => new StagingBuffer(gpu, 'batch', 500))
  expect([error.code, error.details, error.cause]).toEqual([
    'GPU_OUT_OF_MEMORY',
    {
      memory: 'device',
      resource: "the device buffer 'batch'",
      neededBytes: 500,
      freeBytes: 400,
      totalBytes: 1000,
    },
    expect.objectContaining({ code: 'CUDA_STATUS' }),
  ])
  expect(driver.live.pinnedBuffers).toBe(0)
  driver.fail('cuMemHostAlloc', 2)
  expect(thrownBy(() => new PinnedBuffer(gpu, 'ids', 8))).toMatchObject({ details: { memory: 'pinned' } })
  driver.fail('cuMemAlloc_v2', 700)
  expect(thrownBy(() => new DeviceBuffer(gpu, 'x', 8))).toMatchObject({ code: 'CUDA_STATUS' })
  expectClean(fake)
})
