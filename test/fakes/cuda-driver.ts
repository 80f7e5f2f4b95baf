/** A CUDA driver without a GPU: the same functions over a Map of memory, streams on a clock of its own. */
import { EmbedError } from '../../src/errors.ts'
import * as c from '../../src/hardware/ffi/cuda.ts'
import { type NativeFunction, type Pointer, viewMemory } from '../../src/hardware/ffi/library.ts'
import { h100, statusNames } from './cuda-facts.ts'
import { FakeMemory } from './cuda-memory.ts'
import { type Engine, type EventRecord, type FakeStream, FakeTimeline, type Work } from './cuda-timeline.ts'

export interface FakeCudaOptions {
  readonly deviceCount?: number
  readonly isIntegrated?: boolean
  /** Of the device's memory; allocations beyond it fail as on a GPU. */
  readonly totalBytes?: number
  /** Default: an H100's. */
  readonly l2CacheBytes?: number
  /** Of each copy direction. */
  readonly bytesPerMs?: number
  /** Kernels that every module has: how long they run, and what they do with their 64-bit argument slots. */
  readonly kernels?: Readonly<Record<string, FakeKernel>>
  /** Every query that says "not ready" moves the clock to the next completion. Default true; else `advance` does. */
  readonly autoAdvance?: boolean
}

export interface FakeKernel {
  readonly durationMs: number
  readonly run?: (slots: readonly bigint[], driver: FakeCudaDriver) => void
}

export interface LiveCounts {
  contexts: number
  deviceBuffers: number
  pinnedBuffers: number
  streams: number
  events: number
  modules: number
  graphs: number
  graphExecs: number
}

export class FakeCudaDriver {
  readonly api: c.Cuda
  readonly timeline: FakeTimeline
  /** By CUlimit. */
  readonly limits = new Map<number, number>()
  /** Double frees, uses after free, foreign handles: a correct program has none. */
  readonly violations: string[] = []
  readonly #options: Required<FakeCudaOptions>
  readonly #faults: { api: string; call: number; status: number }[] = []
  readonly #calls = new Map<string, number>()
  readonly #memory: FakeMemory
  readonly #events = new Map<bigint, { latest: EventRecord | undefined; hasTiming: boolean }>()
  readonly #modules = new Set<bigint>()
  readonly #functions = new Map<bigint, FakeKernel & { readonly name: string }>()
  readonly #graphs = new Map<bigint, readonly Work[]>()
  readonly #execs = new Map<bigint, readonly Work[]>()
  readonly #retained = new Map<number, number>()
  #initialised = false
  #current: bigint | null = null
  #nextHandle = 0x5000n
  #broken = 0

  constructor(options: FakeCudaOptions = {}) {
    this.#options = {
      deviceCount: 1,
      isIntegrated: false,
      totalBytes: 1 << 30,
      l2CacheBytes: h100[c.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE]!,
      bytesPerMs: 1 << 20,
      kernels: {},
      autoAdvance: true,
      ...options,
    }
    this.#memory = new FakeMemory(this.#options.totalBytes)
    this.timeline = new FakeTimeline(this.#options.autoAdvance)
    this.api = this.#makeApi()
  }

  get live(): LiveCounts {
    return {
      contexts: [...this.#retained.values()].reduce((sum, count) => sum + count, 0),
      deviceBuffers: this.#memory.device.size,
      pinnedBuffers: this.#memory.host.size,
      streams: this.timeline.streams.size,
      events: this.#events.size,
      modules: this.#modules.size,
      graphs: this.#graphs.size,
      graphExecs: this.#execs.size,
    }
  }

  /** How often a function was called. */
  calls(api: keyof c.Cuda): number {
    return this.#calls.get(api) ?? 0
  }

  /** Lets the `call`-th call from now (1 = the next) of a function answer `status`. */
  fail(api: keyof c.Cuda, status: number, call = 1): void {
    this.#faults.push({ api, status, call: this.calls(api) + call })
  }

  /** From now on every call answers `status`, as after an illegal address. */
  breakGpu(status = 700): void {
    this.#broken = status
  }

  /** What a library enqueues that launches kernels of its own. */
  enqueue(stream: bigint, kernel: { name: string; durationMs: number; run: () => void }): void {
    this.#enter('a library', true)
    const { name: what, durationMs, run: finish } = kernel
    this.#stream('a library', stream).enqueue({ what, engine: 'compute', durationMs, finish })
  }

  /** The bytes at a device pointer, to look at. */
  deviceBytes(pointer: bigint, bytes: number): Uint8Array {
    return this.#find('a test', pointer, bytes)
  }

  #fail(api: string, status: number, violation?: string): never {
    if (violation !== undefined) this.violations.push(`${api}: ${violation}`)
    const [name, reason] = statusNames[status] ?? ['CUDA_ERROR_UNKNOWN', 'unknown error']
    throw new EmbedError('CUDA_STATUS', { api, status, name, reason })
  }

  /** Counts the call, and fails where a test wants it to. */
  #enter(api: string, needsContext = true): void {
    const call = (this.#calls.get(api) ?? 0) + 1
    this.#calls.set(api, call)
    const fault = this.#faults.find((each) => each.api === api && each.call === call)
    if (fault !== undefined) this.#fail(api, fault.status)
    if (this.#broken !== 0) this.#fail(api, this.#broken)
    if (!this.#initialised && api !== 'cuInit') this.#fail(api, 3)
    if (needsContext && this.#current === null) this.#fail(api, 201)
  }

  #stream(api: string, handle: bigint): FakeStream {
    return this.#take(api, this.timeline.streams, handle)
  }

  #handle(): bigint {
    return (this.#nextHandle += 0x10n)
  }

  #launch(
    api: string,
    fn: c.CudaFunction,
    { stream, addresses }: { readonly stream: c.CudaStream; readonly addresses: BigUint64Array },
  ): void {
    this.#enter(api)
    const kernel = this.#take(api, this.#functions, fn)
    const slots = Array.from(addresses, (at) => new BigUint64Array(viewMemory(at as Pointer, 8).slice(0))[0]!)
    this.#stream(api, stream).enqueue({
      what: kernel.name,
      engine: 'compute',
      durationMs: kernel.durationMs,
      finish: () => kernel.run?.(slots, this),
    })
  }

  #take<Value>(api: string, map: ReadonlyMap<bigint, Value>, handle: bigint): Value {
    const value = map.get(handle)
    if (value === undefined) this.#fail(api, 400, `0x${handle.toString(16)} is no live handle`)
    return value
  }

  #find(api: string, pointer: bigint, bytes: number, side: 'device' | 'host' = 'device'): Uint8Array {
    const found = this.#memory.find(pointer, bytes, side)
    return found ?? this.#fail(api, 1, `${bytes} bytes at 0x${pointer.toString(16)} are not allocated`)
  }

  #hostBytes(api: string, memory: c.HostMemory, bytes: number): Uint8Array {
    if (typeof memory === 'bigint') return this.#find(api, memory, bytes, 'host')
    return new Uint8Array(memory.buffer, memory.byteOffset, bytes)
  }

  #copy(
    api: string,
    engine: Engine,
    request: { readonly stream: bigint; readonly bytes: number },
    ends: readonly [target: () => Uint8Array, source: () => Uint8Array],
  ): void {
    this.#enter(api)
    const [target, source] = ends
    // Both must exist now and still when the copy runs.
    target()
    source()
    const durationMs = request.bytes / this.#options.bytesPerMs
    const finish = () => target().set(source())
    this.#stream(api, request.stream).enqueue({ what: engine, engine, durationMs, finish })
  }

  #destroy(api: string, map: Map<bigint, unknown> | Set<bigint>, handle: bigint): void {
    this.#enter(api)
    if (!map.delete(handle)) this.#fail(api, 400, `0x${handle.toString(16)} was freed before, or never made`)
  }

  #unsafeWhileCapturing(api: string): void {
    const { captures } = this.timeline
    if (captures.length === 0) return
    for (const capture of captures) capture.isBroken = true
    this.#fail(api, 900)
  }

  #makeApi(): c.Cuda {
    const outside = <Args extends readonly unknown[]>(api: string, run: (...args: Args) => void) =>
      native((...args: Args) => {
        this.#enter(api, false)
        run(...args)
      })
    return {
      cuInit: outside('cuInit', () => {
        if (this.#options.deviceCount === 0) this.#fail('cuInit', c.CUDA_ERROR_NO_DEVICE)
        this.#initialised = true
      }),
      cuDriverGetVersion: outside('cuDriverGetVersion', (out) => (out[0] = 13_000)),
      cuDeviceGetCount: outside('cuDeviceGetCount', (out) => (out[0] = this.#options.deviceCount)),
      cuDeviceGet: outside('cuDeviceGet', (out, ordinal) => {
        if (ordinal >= this.#options.deviceCount) this.#fail('cuDeviceGet', 101)
        out[0] = ordinal as c.CudaDevice
      }),
      cuDeviceGetName: outside('cuDeviceGetName', (name) => {
        name.set(Buffer.from('Fake GPU\0'))
      }),
      cuDeviceGetUuid_v2: outside('cuDeviceGetUuid_v2', (uuid, device) => {
        uuid.set(Array.from({ length: 16 }, (_, i) => i * 16 + device))
      }),
      cuDeviceTotalMem_v2: outside('cuDeviceTotalMem_v2', (out) => (out[0] = this.#options.totalBytes)),
      cuDeviceGetAttribute: outside('cuDeviceGetAttribute', (out, attribute) => {
        const { isIntegrated, l2CacheBytes } = this.#options
        const facts: Readonly<Record<number, number>> = {
          ...h100,
          [c.CU_DEVICE_ATTRIBUTE_INTEGRATED]: Number(isIntegrated),
          [c.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE]: l2CacheBytes,
        }
        out[0] = facts[attribute] ?? this.#fail('cuDeviceGetAttribute', 1, `attribute ${attribute}`)
      }),
      cuDevicePrimaryCtxRetain: outside('cuDevicePrimaryCtxRetain', (out, device) => {
        this.#retained.set(device, (this.#retained.get(device) ?? 0) + 1)
        out[0] = (0x1000n + BigInt(device)) as c.CudaContext
      }),
      cuDevicePrimaryCtxRelease_v2: outside('cuDevicePrimaryCtxRelease_v2', (device) => {
        const count = this.#retained.get(device) ?? 0
        if (count === 0) this.#fail('cuDevicePrimaryCtxRelease_v2', 201, 'released more often than retained')
        this.#retained.set(device, count - 1)
      }),
      cuCtxSetCurrent: (context) => {
        this.#enter('cuCtxSetCurrent', false)
        this.#current = context
      },
      cuCtxSynchronize: () => {
        this.#enter('cuCtxSynchronize')
        this.timeline.runUntil(() => false)
      },
      cuCtxSetLimit: (limit, value) => {
        this.#enter('cuCtxSetLimit')
        this.limits.set(limit, value)
      },
      cuMemGetInfo_v2: (freeOut, totalOut) => {
        this.#enter('cuMemGetInfo_v2')
        freeOut[0] = this.#memory.freeBytes
        totalOut[0] = this.#memory.totalBytes
      },
      cuMemAlloc_v2: (out, bytes) => {
        this.#enter('cuMemAlloc_v2')
        this.#unsafeWhileCapturing('cuMemAlloc_v2')
        out[0] = this.#memory.allocateDevice(bytes) ?? this.#fail('cuMemAlloc_v2', c.CUDA_ERROR_OUT_OF_MEMORY)
      },
      cuMemFree_v2: (pointer) => {
        this.#memory.spoil(pointer)
        this.#destroy('cuMemFree_v2', this.#memory.device, pointer)
      },
      cuMemHostAlloc: (out, bytes, flags) => {
        this.#enter('cuMemHostAlloc')
        out[0] = this.#memory.allocateHost(bytes, (flags & c.CU_MEMHOSTALLOC_DEVICEMAP) !== 0)
      },
      cuMemFreeHost: (pointer) => {
        this.#memory.spoil(pointer)
        this.#destroy('cuMemFreeHost', this.#memory.host, pointer)
      },
      cuMemHostGetDevicePointer_v2: (out, pointer) => {
        const api = 'cuMemHostGetDevicePointer_v2'
        this.#enter(api)
        if (this.#memory.host.get(pointer)?.isMapped !== true) this.#fail(api, 1, 'memory that is not mapped')
        out[0] = pointer as bigint as c.DevicePointer
      },
      cuMemcpyHtoDAsync_v2: (target, source, bytes, stream) => {
        const api = 'cuMemcpyHtoDAsync_v2'
        this.#copy(api, 'h2d', { stream, bytes }, [
          () => this.#find(api, target, bytes),
          () => this.#hostBytes(api, source, bytes),
        ])
      },
      cuMemcpyDtoHAsync_v2: (target, source, bytes, stream) => {
        const api = 'cuMemcpyDtoHAsync_v2'
        this.#copy(api, 'd2h', { stream, bytes }, [
          () => this.#hostBytes(api, target, bytes),
          () => this.#find(api, source, bytes),
        ])
      },
      cuMemcpyDtoDAsync_v2: (target, source, bytes, stream) => {
        const api = 'cuMemcpyDtoDAsync_v2'
        this.#copy(api, 'compute', { stream, bytes }, [
          () => this.#find(api, target, bytes),
          () => this.#find(api, source, bytes),
        ])
      },
      cuMemsetD8Async: (target, value, bytes, stream) => {
        const api = 'cuMemsetD8Async'
        const filled = new Uint8Array(bytes).fill(value)
        this.#copy(api, 'compute', { stream, bytes }, [() => this.#find(api, target, bytes), () => filled])
      },
      cuStreamCreate: (out) => {
        this.#enter('cuStreamCreate')
        const handle = this.#handle()
        this.timeline.addStream(handle)
        out[0] = handle as c.CudaStream
      },
      cuStreamDestroy_v2: (handle) => {
        const stream = this.timeline.streams.get(handle)
        // The driver lets enqueued work finish.
        if (stream !== undefined) this.timeline.runUntil(() => stream.isIdle)
        this.#destroy('cuStreamDestroy_v2', this.timeline.streams, handle)
      },
      cuStreamQuery: (handle) => {
        this.#enter('cuStreamQuery')
        const stream = this.#stream('cuStreamQuery', handle)
        return this.timeline.query(() => stream.isIdle)
      },
      cuStreamSynchronize: native((handle: c.CudaStream) => {
        this.#enter('cuStreamSynchronize')
        const stream = this.#stream('cuStreamSynchronize', handle)
        this.timeline.runUntil(() => stream.isIdle)
      }),
      cuStreamWaitEvent: (stream, event) => {
        this.#enter('cuStreamWaitEvent')
        const { latest } = this.#take('cuStreamWaitEvent', this.#events, event)
        this.timeline.waitFor(this.#stream('cuStreamWaitEvent', stream), latest)
      },
      cuEventCreate: (out, flags) => {
        this.#enter('cuEventCreate')
        const handle = this.#handle()
        const hasTiming = (flags & c.CU_EVENT_DISABLE_TIMING) === 0
        this.#events.set(handle, { latest: undefined, hasTiming })
        out[0] = handle as c.CudaEvent
      },
      cuEventRecord: (event, stream) => {
        this.#enter('cuEventRecord')
        const taken = this.#take('cuEventRecord', this.#events, event)
        taken.latest = this.timeline.record(this.#stream('cuEventRecord', stream))
      },
      cuEventQuery: (handle) => {
        this.#enter('cuEventQuery')
        const { latest } = this.#take('cuEventQuery', this.#events, handle)
        return this.timeline.query(() => latest?.isDone ?? true)
      },
      cuEventSynchronize: native((handle: c.CudaEvent) => {
        this.#enter('cuEventSynchronize')
        const { latest } = this.#take('cuEventSynchronize', this.#events, handle)
        this.timeline.runUntil(() => latest?.isDone ?? true)
      }),
      cuEventElapsedTime: (out, start, end) => {
        const api = 'cuEventElapsedTime'
        this.#enter(api)
        const [from, to] = [this.#take(api, this.#events, start), this.#take(api, this.#events, end)]
        if (!from.hasTiming || !to.hasTiming) this.#fail(api, 400, 'an event without timing')
        if (from.latest?.isDone !== true || to.latest?.isDone !== true)
          this.#fail(api, c.CUDA_ERROR_NOT_READY)
        out[0] = to.latest.atMs - from.latest.atMs
      },
      cuEventDestroy_v2: (handle) => this.#destroy('cuEventDestroy_v2', this.#events, handle),
      cuModuleLoadData: (out) => {
        this.#enter('cuModuleLoadData')
        const handle = this.#handle()
        this.#modules.add(handle)
        out[0] = handle as c.CudaModule
      },
      cuModuleUnload: (handle) => this.#destroy('cuModuleUnload', this.#modules, handle),
      cuModuleGetFunction: (out, _module, name) => {
        this.#enter('cuModuleGetFunction')
        const kernel = this.#options.kernels[name]
        if (kernel === undefined) this.#fail('cuModuleGetFunction', 500)
        const handle = this.#handle()
        this.#functions.set(handle, { ...kernel, name })
        out[0] = handle as c.CudaFunction
      },
      cuFuncGetAttribute: (out, attribute) => {
        this.#enter('cuFuncGetAttribute')
        out[0] = attribute
      },
      cuFuncSetAttribute: () => this.#enter('cuFuncSetAttribute'),
      cuLaunchKernel: (fn, ...rest) =>
        this.#launch('cuLaunchKernel', fn, { stream: rest[7], addresses: rest[8] }),
      cuLaunchKernelEx: (config, fn, addresses) => {
        // CUlaunchConfig: three sizes of the grid, three of a block, bytes of shared memory, then the stream.
        const stream = new DataView(config.buffer, config.byteOffset).getBigUint64(32, true) as c.CudaStream
        this.#launch('cuLaunchKernelEx', fn, { stream, addresses })
      },
      cuStreamBeginCapture_v2: (handle) => {
        this.#enter('cuStreamBeginCapture_v2')
        const stream = this.#stream('cuStreamBeginCapture_v2', handle)
        stream.capture = { work: [], records: new Set(), isBroken: false }
      },
      cuStreamEndCapture: (handle, out) => {
        this.#enter('cuStreamEndCapture')
        const { capture } = this.#stream('cuStreamEndCapture', handle)
        if (capture === undefined) this.#fail('cuStreamEndCapture', 1, 'the stream records nothing')
        for (const stream of this.timeline.streams.values()) {
          if (stream.capture === capture) stream.capture = undefined
        }
        if (capture.isBroken) this.#fail('cuStreamEndCapture', 901)
        const graph = this.#handle()
        this.#graphs.set(graph, capture.work)
        out[0] = graph as c.CudaGraph
      },
      cuGraphGetNodes: (graph, _nodes, count) => {
        this.#enter('cuGraphGetNodes')
        count[0] = this.#take('cuGraphGetNodes', this.#graphs, graph).length
      },
      cuGraphInstantiateWithFlags: (out, graph) => {
        this.#enter('cuGraphInstantiateWithFlags')
        const handle = this.#handle()
        this.#execs.set(handle, this.#take('cuGraphInstantiateWithFlags', this.#graphs, graph))
        out[0] = handle as c.CudaGraphExec
      },
      cuGraphLaunch: (handle, stream) => {
        this.#enter('cuGraphLaunch')
        // In the order of recording, which satisfies every wait among them.
        for (const { isReady: _, ...work } of this.#take('cuGraphLaunch', this.#execs, handle)) {
          this.#stream('cuGraphLaunch', stream).enqueue(work)
        }
      },
      cuGraphExecDestroy: (handle) => this.#destroy('cuGraphExecDestroy', this.#execs, handle),
      cuGraphDestroy: (handle) => this.#destroy('cuGraphDestroy', this.#graphs, handle),
    }
  }
}

/** A function of JavaScript's in the shape of one of the library's. */
function native<Args extends readonly unknown[]>(run: (...args: Args) => void): NativeFunction<Args, void> {
  return Object.assign((...args: Args) => run(...args), {
    async: async (...args: Args) => {
      await Promise.resolve()
      run(...args)
    },
  })
}
