/** CUPTI's buffers as records. */
import * as c from '../ffi/cupti.ts'
import { recordOffsets } from '../ffi/cupti-records.ts'
import { demangle } from '../ffi/cxxabi.ts'
import { addressOf, type Out, type Pointer, readOut, readText } from '../ffi/library.ts'
import {
  type ApiRecord,
  type DeviceWork,
  type Dim3,
  type Interval,
  type KernelRecord,
  type MemcpyRecord,
  memoryKinds,
  type MemoryKind,
  type MemsetRecord,
} from './activity.ts'

/** Takes buffers one after the other; the lists grow. */
export class ActivityReader {
  readonly kernels: KernelRecord[] = []
  readonly memcpys: MemcpyRecord[] = []
  readonly memsets: MemsetRecord[] = []
  readonly apiCalls: ApiRecord[] = []
  readonly unfinishedKernels: string[] = []
  /** Records whose time CUPTI did not get, or whose work was not over. */
  untimedRecords = 0
  readonly #cupti: c.Cupti
  readonly #originNs: bigint
  readonly #kernelNames = new Map<bigint, string>()
  readonly #callNames = new Map<number, string>()

  /** @param originNs CUPTI's time that records count from */
  constructor(cupti: c.Cupti, originNs: bigint) {
    this.#cupti = cupti
    this.#originNs = originNs
  }

  /** @param buffer as CUPTI gave it back @param validBytes of it hold records */
  read(buffer: ArrayBuffer, validBytes: number): void {
    const address = addressOf(buffer)
    const view = new DataView(buffer)
    const record: [Pointer | null] = [null]
    while (this.#cupti.cuptiActivityGetNextRecord(address, validBytes, record)) {
      this.#take(new Fields(view, Number(record[0]! - address)))
    }
  }

  #take(fields: Fields): void {
    switch (fields.u32(0)) {
      case c.CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL:
        return this.#takeKernel(fields)
      case c.CUPTI_ACTIVITY_KIND_MEMCPY:
        return this.#takeMemcpy(fields)
      case c.CUPTI_ACTIVITY_KIND_MEMSET:
        return this.#takeMemset(fields)
      case c.CUPTI_ACTIVITY_KIND_DRIVER:
        return this.#takeCall(c.CUPTI_CB_DOMAIN_DRIVER_API, fields)
      case c.CUPTI_ACTIVITY_KIND_RUNTIME:
        return this.#takeCall(c.CUPTI_CB_DOMAIN_RUNTIME_API, fields)
      default: // of a kind that was not asked for
    }
  }

  #takeKernel(fields: Fields): void {
    const at = recordOffsets.kernel
    const work = this.#readWork(fields, at)
    const name = this.#kernelName(fields.u64(at.name))
    if (work === undefined) {
      this.unfinishedKernels.push(name)
      return
    }
    this.kernels.push({
      ...work,
      name,
      grid: fields.dim3(at.grid),
      block: fields.dim3(at.block),
      registersPerThread: fields.u16(at.registersPerThread),
      staticSharedBytes: fields.u32(at.staticSharedMemory),
      dynamicSharedBytes: fields.u32(at.dynamicSharedMemory),
    })
  }

  #takeMemcpy(fields: Fields): void {
    const at = recordOffsets.memcpy
    const work = this.#readWork(fields, at)
    if (work === undefined) return
    this.memcpys.push({
      ...work,
      bytes: Number(fields.u64(at.bytes)),
      source: memoryKindOf(fields.u8(at.sourceKind)),
      destination: memoryKindOf(fields.u8(at.destinationKind)),
    })
  }

  #takeMemset(fields: Fields): void {
    const at = recordOffsets.memset
    const work = this.#readWork(fields, at)
    if (work === undefined) return
    const memory = memoryKindOf(fields.u16(at.memoryKind))
    this.memsets.push({ ...work, bytes: Number(fields.u64(at.bytes)), memory })
  }

  #takeCall(domain: number, fields: Fields): void {
    const at = recordOffsets.api
    const interval = this.#readInterval(fields, at)
    if (interval === undefined) return
    this.apiCalls.push({
      ...interval,
      name: this.#callName(domain, fields.u32(at.callbackId)),
      threadId: fields.u32(at.threadId),
      correlationId: fields.u32(at.correlationId),
    })
  }

  #readWork(fields: Fields, at: WorkOffsets): DeviceWork | undefined {
    const interval = this.#readInterval(fields, at)
    if (interval === undefined) return undefined
    const graphId = fields.u32(at.graphId)
    return {
      ...interval,
      deviceId: fields.u32(at.deviceId),
      streamId: fields.u32(at.streamId),
      correlationId: fields.u32(at.correlationId),
      ...(graphId === 0 ? {} : { graph: { id: graphId, nodeId: Number(fields.u64(at.graphNodeId)) } }),
    }
  }

  /** Undefined, and counted, where a time is missing: CUPTI leaves zero. */
  #readInterval(fields: Fields, { start, end }: { start: number; end: number }): Interval | undefined {
    const [startNs, endNs] = [fields.u64(start), fields.u64(end)]
    if (startNs === 0n || endNs === 0n) {
      this.untimedRecords++
      return undefined
    }
    return { startNs: Number(startNs - this.#originNs), endNs: Number(endNs - this.#originNs) }
  }

  #kernelName(pointer: bigint): string {
    let name = this.#kernelNames.get(pointer)
    if (name === undefined) {
      name = pointer === 0n ? 'unnamed' : demangle(readText(pointer as Pointer))
      this.#kernelNames.set(pointer, name)
    }
    return name
  }

  #callName(domain: number, callbackId: number): string {
    const key = domain * 0x1_0000_0000 + callbackId
    let name = this.#callNames.get(key)
    if (name === undefined) {
      name = readOut<string>((out: Out<string>) => this.#cupti.cuptiGetCallbackName(domain, callbackId, out))
      this.#callNames.set(key, name)
    }
    return name
  }
}

type WorkOffsets = Readonly<
  Record<'start' | 'end' | 'deviceId' | 'streamId' | 'correlationId' | 'graphId' | 'graphNodeId', number>
>

/** One record's, by their offsets in it. */
class Fields {
  readonly #view: DataView
  readonly #at: number

  constructor(view: DataView, at: number) {
    this.#view = view
    this.#at = at
  }

  u8(offset: number): number {
    return this.#view.getUint8(this.#at + offset)
  }

  u16(offset: number): number {
    return this.#view.getUint16(this.#at + offset, true)
  }

  u32(offset: number): number {
    return this.#view.getUint32(this.#at + offset, true)
  }

  u64(offset: number): bigint {
    return this.#view.getBigUint64(this.#at + offset, true)
  }

  dim3(offset: number): Dim3 {
    return [this.u32(offset), this.u32(offset + 4), this.u32(offset + 8)]
  }
}

function memoryKindOf(number: number): MemoryKind {
  return memoryKinds[number] ?? 'unknown'
}
