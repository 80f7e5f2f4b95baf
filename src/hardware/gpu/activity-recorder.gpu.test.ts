/** CUPTI itself: what the fake one claims. Needs dist/ for the thread. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { incrementPtx, realCuda } from '../../../test/fixtures/real-gpu.ts'
import { readOut } from '../ffi/library.ts'
import { findCudaLibrary } from '../machine/cuda-libraries.ts'
import { ActivityRecorder } from './activity-recorder.ts'
import { type GpuContext, openGpu } from './context.ts'
import { GpuEvent } from './event.ts'
import { captureGraph } from './graph.ts'
import { KernelArguments } from './kernel-arguments.ts'
import { type GpuKernel, GpuModule } from './module.ts'
import { StagingBuffer } from './staging-buffer.ts'
import { GpuStream } from './stream.ts'

const worker = fileURLToPath(new URL('../../../dist/hardware/gpu/activity-worker.js', import.meta.url))
const cuptiPath = realCuda === undefined ? undefined : findCupti()

describe.skipIf(cuptiPath === undefined || !existsSync(worker))('CUPTI on a GPU', () => {
  let gpu: GpuContext
  let increment: GpuKernel
  let recorder: ActivityRecorder
  let stream: GpuStream
  let staging: StagingBuffer
  beforeAll(async () => {
    gpu = await openGpu(realCuda!)
    increment = new GpuModule(gpu, 'increment', incrementPtx).kernel('increment')
    stream = new GpuStream(gpu, 'recorded')
    staging = new StagingBuffer(gpu, 'values', bytes)
    recorder = new ActivityRecorder({
      cuptiPath: cuptiPath!,
      createWorker: (workerData) => new Worker(worker, { workerData, execArgv: [] }),
    })
  })
  afterAll(async () => {
    await recorder[Symbol.asyncDispose]()
    gpu[Symbol.dispose]()
  })

  const count = 1 << 20
  const bytes = count * 4
  const launch = (rounds: number) =>
    increment.launch(
      stream,
      { grid: [count / 256], block: [256] },
      new KernelArguments(['pointer', 'u32', 'u32']).set(staging.devicePointer, count, rounds),
    )

  it('records kernels, pinned copies and fills, of graphs made before it node by node', async () => {
    using graph = captureGraph(stream, () => {
      for (let i = 0; i < 5; i++) launch(10)
    })
    graph.launch(stream)
    await stream.idle()
    await recorder.start()
    staging.upload(stream)
    launch(100)
    launch(100)
    graph.launch(stream)
    graph.launch(stream)
    staging.download(stream)
    await stream.idle()
    const { kernels, memcpys, droppedRecords } = await recorder.stop()
    expect(droppedRecords).toBe(0)
    expect(kernels.map(({ name }) => name)).toEqual(Array.from({ length: 12 }, () => 'increment'))
    const own = kernels.filter((kernel) => kernel.graph === undefined)
    expect(own).toHaveLength(2)
    for (const kernel of kernels) {
      expect(kernel).toMatchObject({ grid: [count / 256, 1, 1], block: [256, 1, 1] })
      expect(kernel.endNs).toBeGreaterThan(kernel.startNs)
    }
    expect(new Set(kernels.flatMap((each) => each.graph?.nodeId ?? [])).size).toBe(5)
    expect(memcpys).toMatchObject([
      { bytes, source: 'pinned', destination: 'device' },
      { bytes, source: 'device', destination: 'pinned' },
    ])
    expect(memcpys[0]!.endNs).toBeLessThanOrEqual(kernels[0]!.startNs)
  })

  it('agrees with CUDA events to 3 %, and with the clock of the host', async () => {
    using before = new GpuEvent(gpu, { timing: true })
    using after = new GpuEvent(gpu, { timing: true })
    await recorder.start()
    const fromMs = performance.now()
    before.record(stream)
    for (let i = 0; i < 20; i++) launch(20_000)
    after.record(stream)
    await stream.idle()
    const toMs = performance.now()
    const { startedMs, kernels } = await recorder.stop()
    const spanMs = (kernels.at(-1)!.endNs - kernels[0]!.startNs) / 1e6
    expect(Math.abs(spanMs / after.elapsedMsSince(before) - 1)).toBeLessThan(0.03)
    expect(startedMs + kernels[0]!.startNs / 1e6).toBeGreaterThan(fromMs - 1)
    expect(startedMs + kernels.at(-1)!.endNs / 1e6).toBeLessThan(toMs + 1)
  })

  it('knows pageable memory and the calls that were made', async () => {
    const values = new Uint8Array(bytes)
    await recorder.start({ apiCalls: true })
    gpu.makeCurrent().cuMemcpyHtoDAsync_v2(staging.devicePointer, values, bytes, stream.handle)
    launch(1)
    await stream.idle()
    const { apiCalls, kernels, memcpys } = await recorder.stop()
    expect(memcpys).toMatchObject([{ bytes, source: 'pageable', destination: 'device' }])
    const names = apiCalls.map(({ name }) => name)
    expect(names).toContain('cuMemcpyHtoDAsync_v2')
    const call = apiCalls.find(({ correlationId }) => correlationId === kernels[0]!.correlationId)
    expect(call?.name).toMatch(/^cuLaunchKernel/)
  })
})

function findCupti(): string | undefined {
  const version = readOut<number>((out) => realCuda!.cuDriverGetVersion(out))
  const { LD_LIBRARY_PATH: libraryPath, CUDA_HOME: cudaHome } = process.env
  return findCudaLibrary('libcupti', { libraryPath, cudaHome, cudaMajor: Math.floor(version / 1000) }).found
    ?.path
}
