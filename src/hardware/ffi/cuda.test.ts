import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { failureOf, thrownBy } from '../../../test/fakes/failure.ts'
import { canCompile, compileNative } from '../../../test/fakes/native-library.ts'
import { openGpu } from '../gpu/context.ts'
import { DeviceBuffer } from '../gpu/device-buffer.ts'
import { GpuEvent } from '../gpu/event.ts'
import { captureGraph, countGraphNodes } from '../gpu/graph.ts'
import { KernelArguments } from '../gpu/kernel-arguments.ts'
import { GpuModule } from '../gpu/module.ts'
import { PinnedBuffer } from '../gpu/pinned-buffer.ts'
import { GpuStream } from '../gpu/stream.ts'
import { type Cuda, type CudaEvent, loadCuda } from './cuda.ts'
import { loadLibrary, type NativeFunction, readOut } from './library.ts'

describe.skipIf(!canCompile)('the CUDA driver, from C', () => {
  let path: string
  let cuda: Cuda
  let calls: () => string[]
  let clear: NativeFunction<[], void>
  let failNext: NativeFunction<[api: string, status: number], void>

  beforeAll(() => {
    path = compileNative('cuda')
    cuda = loadCuda(path)
    const library = loadLibrary(path)
    const read = library.declare<[], string>('const char *fake_calls()')
    calls = () => read().trim().split('\n')
    clear = library.declare<[], void>('void fake_clear()')
    failNext = library.declare<[string, number], void>('void fake_fail(const char *api, int status)')
  })
  beforeEach(() => {
    cuda.cuCtxSetCurrent(null)
    clear()
  })

  it('is loaded once', () => {
    expect(loadCuda(path)).toBe(cuda)
    expect(() => loadCuda('/absent/libcuda.so.1')).toThrow(/cannot open/)
  })

  it('throws a status with the name and the words of the driver', async () => {
    const error = thrownBy(() =>
      readOut((out: Parameters<Cuda['cuMemAlloc_v2']>[0]) => cuda.cuMemAlloc_v2(out, 8)),
    )
    expect([error.code, error.details]).toEqual([
      'CUDA_STATUS',
      {
        api: 'cuMemAlloc_v2',
        status: 201,
        name: 'CUDA_ERROR_INVALID_CONTEXT',
        reason: 'invalid device context',
      },
    ])
    failNext('cuInit', 98)
    expect((await failureOf(cuda.cuInit.async(0))).message).toBe(
      "CUDA's cuInit answered 98 unknown: unknown to this driver",
    )
  })

  it('tells "not ready" from a failure', () => {
    const event = 0xe000n as CudaEvent
    expect(cuda.cuEventQuery(event)).toBe(true)
    failNext('cuEventQuery', 600)
    expect(cuda.cuEventQuery(event)).toBe(false)
    failNext('cuEventQuery', 2)
    expect(thrownBy(() => cuda.cuEventQuery(event)).details).toMatchObject({
      status: 2,
      reason: 'out of memory',
    })
  })

  it('reads names, identifiers and sizes beyond 32 bits', async () => {
    using gpu = await openGpu(cuda, { ordinal: 1 })
    expect(gpu.device).toMatchObject({
      name: 'Fake 1',
      uuid: 'GPU-efeeedec-ebea-e9e8-e7e6-e5e4e3e2e1e0',
      totalBytes: 192 * 2 ** 30 + 1,
      computeCapability: { major: 751, minor: 761 },
      maxClockMhz: 0.131,
    })
    expect(gpu.readMemory()).toEqual({ freeBytes: 5 * 2 ** 30, totalBytes: 7 * 2 ** 30 })
  })

  it('carries every owner of gpu/ from creation to free', async () => {
    const gpu = await openGpu(cuda)
    gpu.limitStack(512)
    const stream = new GpuStream(gpu, 's')
    const [input, output] = [new PinnedBuffer(gpu, 'in', 8), new PinnedBuffer(gpu, 'out', 8)]
    const [a, b] = [new DeviceBuffer(gpu, 'a', 8), new DeviceBuffer(gpu, 'b', 8)]
    input.int32().set([7, -8])
    stream.copy(a, input)
    stream.copy(b, a)
    stream.setBytes(b, 1, 4)
    stream.copy(output, b)
    expect([...output.int32()]).toEqual([0x01010101, -8])
    const [start, end] = [new GpuEvent(gpu, { timing: true }), new GpuEvent(gpu, { timing: true })]
    start.record(stream)
    stream.waitFor(end)
    await stream.idle()
    expect(end.elapsedMsSince(start)).toBe(1.25)
    const kernel = new GpuModule(gpu, 'm', 'ptx text').kernel('add')
    const args = new KernelArguments(['pointer', 'i32', 'f32']).set(0xabc0n, -3, 0.5)
    kernel.launch(stream, { grid: [4, 2], block: [64], sharedBytes: 128 }, args)
    const early = new GpuModule(gpu, 'e', 'other', { overlapping: true }).kernel('add')
    early.launch(stream, { grid: [7], block: [32, 2] }, args)
    kernel.allowSharedBytes(100_000)
    expect(kernel.usage).toEqual({ registers: 104, sharedBytes: 101, localBytes: 103 })
    captureGraph(stream, () => stream.setBytes(a, 255)).launch(stream)
    expect(countGraphNodes(stream, () => undefined)).toBe(3)
    gpu[Symbol.dispose]()
    expect(calls().filter((line) => !line.startsWith('cuCtxSetCurrent 0xc000'))).toEqual([
      'cuInit 0',
      'cuDeviceGet 0',
      'cuDeviceGet 0',
      'cuDevicePrimaryCtxRetain 0',
      'cuCtxSetLimit 0 512',
      'cuStreamCreate 1',
      // An integrated GPU: its attributes are all but zero.
      'cuMemHostAlloc 8 2',
      'cuMemHostGetDevicePointer_v2 0',
      'cuMemHostAlloc 8 2',
      'cuMemHostGetDevicePointer_v2 0',
      'cuMemAlloc_v2 8',
      'cuMemAlloc_v2 8',
      'cuMemcpyHtoDAsync_v2 8 0x5000',
      'cuMemcpyDtoDAsync_v2 8 0x5000',
      'cuMemsetD8Async 1 4 0x5000',
      'cuMemcpyDtoHAsync_v2 8 0x5000',
      'cuEventCreate 1',
      'cuEventCreate 1',
      'cuEventRecord 0xe000 0x5000',
      'cuStreamWaitEvent 0x5000 0xe000 0',
      'cuStreamQuery 0x5000',
      'cuEventElapsedTime 0xe000 0xe000',
      'cuModuleLoadData ptx text',
      'cuModuleGetFunction 0xa000 add',
      'cuLaunchKernel 0xf000 4,2,1 64,1,1 128 0x5000 (0xabc0, -3, 0.5) 0x0',
      'cuModuleLoadData other',
      'cuModuleGetFunction 0xa000 add',
      'cuLaunchKernelEx 1 attributes, the first 6: 1',
      'cuLaunchKernel 0xf000 7,1,1 32,2,1 0 0x5000 (0xabc0, -3, 0.5) 0x0',
      'cuFuncSetAttribute 0xf000 8 100000',
      'cuFuncGetAttribute 4 0xf000',
      'cuFuncGetAttribute 1 0xf000',
      'cuFuncGetAttribute 3 0xf000',
      'cuStreamBeginCapture_v2 0x5000 1',
      'cuMemsetD8Async 255 8 0x5000',
      'cuStreamEndCapture 0x5000',
      'cuGraphInstantiateWithFlags 0x6000 0',
      'cuGraphDestroy 0x6000',
      'cuGraphLaunch 0x6100 0x5000',
      'cuStreamBeginCapture_v2 0x5000 1',
      'cuStreamEndCapture 0x5000',
      'cuGraphGetNodes 0x6000 1',
      'cuGraphDestroy 0x6000',
      'cuCtxSynchronize ',
      'cuGraphExecDestroy 0x6100',
      'cuModuleUnload 0xa000',
      'cuModuleUnload 0xa000',
      'cuEventDestroy_v2 0xe000',
      'cuEventDestroy_v2 0xe000',
      'cuMemFree_v2 ',
      'cuMemFree_v2 ',
      'cuMemFreeHost ',
      'cuMemFreeHost ',
      'cuStreamDestroy_v2 0x5000',
      'cuCtxSetCurrent 0x0',
      'cuDevicePrimaryCtxRelease_v2 0',
    ])
  })

  it('runs the asynchronous form on another thread, where no context is current', async () => {
    using gpu = await openGpu(cuda)
    const event = new GpuEvent(gpu, { timing: false })
    clear()
    let ticks = 0
    const interval = setInterval(() => ticks++, 5)
    await cuda.cuEventSynchronize.async(event.handle)
    clearInterval(interval)
    expect([calls(), ticks > 3]).toEqual([['cuEventSynchronize 0xe000 0x0'], true])
    cuda.cuEventSynchronize(event.handle)
    expect(calls()[1]).toBe('cuEventSynchronize 0xe000 0xc000')
  })
})
