/** What the fake driver claims, on a GPU. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { incrementPtx, realCuda } from '../../../test/fixtures/real-gpu.ts'
import { BufferPool } from './buffer-pool.ts'
import { type GpuContext, openGpu } from './context.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { GpuEvent } from './event.ts'
import { captureGraph } from './graph.ts'
import { KernelArguments } from './kernel-arguments.ts'
import { type GpuKernel, GpuModule } from './module.ts'
import { StagingBuffer } from './staging-buffer.ts'
import { GpuStream } from './stream.ts'
import { StreamPool } from './stream-pool.ts'

describe.skipIf(realCuda === undefined)('GPU foundation', () => {
  let gpu: GpuContext
  let increment: GpuKernel
  beforeAll(async () => {
    gpu = await openGpu(realCuda!)
    increment = new GpuModule(gpu, 'increment', incrementPtx).kernel('increment')
  })
  afterAll(() => gpu[Symbol.dispose]())

  const count = 1 << 20
  const launch = (stream: GpuStream, staging: StagingBuffer, rounds: number) =>
    increment.launch(
      stream,
      { grid: [count / 256], block: [256] },
      new KernelArguments(['pointer', 'u32', 'u32']).set(staging.devicePointer, count, rounds),
    )

  it('knows its device', () => {
    expect(gpu.device.name).not.toBe('')
    expect(gpu.device.uuid).toMatch(/^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    expect(gpu.device.computeCapability.major).toBeGreaterThanOrEqual(7)
    const { freeBytes, totalBytes } = gpu.readMemory()
    expect(freeBytes).toBeLessThan(totalBytes)
    expect(increment.usage.registers).toBeGreaterThan(0)
  })

  it('copies there, computes, and copies back', async () => {
    using stream = new GpuStream(gpu, 'test')
    using staging = new StagingBuffer(gpu, 'values', count * 4)
    staging.host.int32().forEach((_, i, values) => (values[i] = i))
    staging.upload(stream)
    launch(stream, staging, 3)
    staging.download(stream)
    await stream.idle()
    expect(staging.host.int32().every((value, i) => value === i + 3)).toBe(true)
  })

  it('runs copies of one batch beside the kernel of another', async () => {
    using pool = new StreamPool(gpu, { timing: true })
    const batches = Array.from({ length: 4 }, (_, i) => new StagingBuffer(gpu, `batch ${i}`, count * 4))
    const run = (staging: StagingBuffer) =>
      pool.runBatch({
        h2d: (stream) => staging.upload(stream),
        compute: (stream) => launch(stream, staging, 200),
        d2h: (stream) => staging.download(stream),
      })
    await run(batches[0]!)
    for (const staging of batches) staging.host.int32().fill(1)
    const times = await Promise.all(batches.map(run))
    for (const staging of batches) expect(staging.host.int32().every((value) => value === 201)).toBe(true)
    if (!gpu.device.isIntegrated) expect(times[1]!.h2d!.fromMs).toBeLessThan(times[0]!.compute!.toMs)
    for (const [i, { compute }] of times.slice(1).entries()) {
      expect(compute!.toMs).toBeGreaterThan(times[i]!.compute!.toMs)
    }
    for (const staging of batches) staging[Symbol.dispose]()
  })

  it('runs a graph of copies and kernels', async () => {
    using stream = new GpuStream(gpu, 'graph')
    using staging = new StagingBuffer(gpu, 'values', count * 4)
    using graph = captureGraph(stream, () => {
      staging.upload(stream)
      launch(stream, staging, 1)
      launch(stream, staging, 1)
      staging.download(stream)
    })
    for (const value of [5, 50]) {
      staging.host.int32().fill(value)
      graph.launch(stream)
      await stream.idle()
      expect(staging.host.int32().every((found) => found === value + 2)).toBe(true)
    }
  })

  it('refuses memory in the middle of a recording, and the stream works on', async () => {
    using stream = new GpuStream(gpu, 'graph')
    expect(thrownBy(() => captureGraph(stream, () => void new DeviceBuffer(gpu, 'late', 8))).code).toBe(
      'CUDA_STATUS',
    )
    await stream.idle()
  })

  it('says what is free when memory runs out', () => {
    const bytes = gpu.device.totalBytes * 2
    const error = thrownBy(() => new DeviceBuffer(gpu, 'too large', bytes))
    expect([error.code, error.details]).toEqual([
      'GPU_OUT_OF_MEMORY',
      expect.objectContaining({ neededBytes: bytes, totalBytes: gpu.readMemory().totalBytes }),
    ])
  })

  it('gives all memory back', async () => {
    const before = gpu.readMemory().freeBytes
    {
      const create = (bytes: number) => new DeviceBuffer(gpu, 'pooled', bytes)
      using pool = new BufferPool({ name: 'a pool', create })
      using lease = await pool.acquire(256 << 20)
      expect(lease.buffer.bytes).toBe(256 << 20)
      expect(gpu.readMemory().freeBytes).toBeLessThan(before)
    }
    expect(gpu.readMemory().freeBytes).toBe(before)
  })

  it('measures time by events while the event loop turns', async () => {
    using stream = new GpuStream(gpu, 'timed')
    using staging = new StagingBuffer(gpu, 'values', count * 4)
    const [start, end] = [new GpuEvent(gpu, { timing: true }), new GpuEvent(gpu, { timing: true })]
    let ticks = 0
    const interval = setInterval(() => ticks++, 1)
    start.record(stream)
    for (let i = 0; i < 20; i++) launch(stream, staging, 2000)
    end.record(stream)
    await end.done()
    clearInterval(interval)
    expect([end.elapsedMsSince(start) > 0, ticks > 0]).toEqual([true, true])
    start[Symbol.dispose]()
    end[Symbol.dispose]()
  })
})
