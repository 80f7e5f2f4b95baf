/** CUPTI's side of a recording: asks for records, lends it buffers, reads what comes back.
 *
 * CUPTI takes and returns buffers on whatever thread it is on, inside calls that launch kernels too, and the callback waits
 * there for the event loop of the thread that declared it. So this runs on a thread of its own (activity-worker.ts): one
 * that launches would wait for CUPTI while CUPTI waits for it. For the same reason all calls that may meet a launch are
 * made in asynchronous form. */
import { EmbedError } from '../../errors.ts'
import * as c from '../ffi/cupti.ts'
import { knownCuptiVersions } from '../ffi/cupti-records.ts'
import {
  addressOf,
  declareCallback,
  type Pointer,
  readOut,
  readOutAsync,
  viewMemory,
} from '../ffi/library.ts'
import type { GpuActivity } from './activity.ts'
import { ActivityReader } from './activity-reader.ts'

export interface RecordingOptions {
  /** Calls of the driver and the runtime too, at a cost a call. Polling (cuEventQuery, cuStreamQuery) is left out where
   * CUPTI can (12.5). Default false. */
  readonly apiCalls?: boolean
  /** Most memory for records; a kernel takes some 220 bytes, a call 40. The recording ends when
   * it is full. Default 64 MiB. */
  readonly maxBufferBytes?: number
}

/** A recording's times as process.hrtime has them, which all threads share. */
export type SessionActivity = Omit<GpuActivity, 'startedMs'> & { readonly startedAtNs: bigint }

const deviceKinds = [
  c.CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
  c.CUPTI_ACTIVITY_KIND_MEMCPY,
  c.CUPTI_ACTIVITY_KIND_MEMSET,
]
const apiKinds = [c.CUPTI_ACTIVITY_KIND_DRIVER, c.CUPTI_ACTIVITY_KIND_RUNTIME]

/** A thread that launches work fills buffers of its own: small ones leave room for many threads. */
const bufferBytes = 4 << 20

export class ActivitySession {
  readonly #cupti: c.Cupti
  readonly #lent = new Map<bigint, ArrayBuffer>()
  readonly #completed: { readonly buffer: ArrayBuffer; readonly validBytes: number }[] = []
  #freeBytes = 0
  #recording: Recording | undefined

  /** @throws {EmbedError} CUPTI_VERSION, CUPTI_STATUS */
  constructor(cupti: c.Cupti) {
    this.#cupti = cupti
    checkVersion(cupti)
  }

  /** @throws {EmbedError} PROFILER_BUSY, PROFILING_NOT_PERMITTED, CUPTI_STATUS; nothing is recorded then */
  async start({ apiCalls = false, maxBufferBytes = 64 << 20 }: RecordingOptions = {}): Promise<void> {
    if (this.#recording !== undefined) {
      throw new EmbedError('PROFILER_BUSY', { holder: 'a recording of this process' })
    }
    const cupti = this.#cupti
    const { subscriber, requested, completed } = this.#callbacks()
    const recording: Recording = {
      kinds: [],
      subscriber: undefined,
      endedAtNs: undefined,
      ...this.#readClocks(),
    }
    this.#recording = recording
    try {
      // Fails where another profiler is at work.
      recording.subscriber = readOut<c.CuptiSubscriber>((out) => cupti.cuptiSubscribe(out, subscriber, null))
      cupti.cuptiActivitySetAttribute(c.CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER, [1], Uint8Array.of(1))
      cupti.cuptiActivityRegisterCallbacks(requested, completed)
      readOut<number>((out) => cupti.cuptiActivityGetNumDroppedRecords(null, 0, out))
      this.#freeBytes = maxBufferBytes
      for (const kind of apiCalls ? [...deviceKinds, ...apiKinds] : deviceKinds) {
        await cupti.cuptiActivityEnable.async(kind)
        recording.kinds.push(kind)
      }
      if (apiCalls) await this.#leaveOutPolling()
    } catch (error) {
      await this.#end(recording)
      throw error
    }
  }

  /** What was recorded since start; work that is not over counts as dropped.
   * @throws {EmbedError} INTERNAL when nothing is being recorded, CUPTI_STATUS */
  async stop(): Promise<SessionActivity> {
    const recording = this.#recording
    if (recording === undefined) throw new EmbedError('INTERNAL', { reason: 'no recording was started' })
    const cupti = this.#cupti
    recording.endedAtNs ??= process.hrtime.bigint()
    try {
      await this.#disable(recording)
      await cupti.cuptiActivityFlushAll.async(0)
      await cupti.cuptiActivityFlushAll.async(c.CUPTI_ACTIVITY_FLAG_FLUSH_FORCED)
    } finally {
      await this.#end(recording)
    }
    const reader = new ActivityReader(cupti, recording.originNs)
    for (const { buffer, validBytes } of this.#completed.splice(0)) reader.read(buffer, validBytes)
    const dropped = await readOutAsync<number>((out) =>
      cupti.cuptiActivityGetNumDroppedRecords.async(null, 0, out),
    )
    return {
      startedAtNs: recording.startedAtNs,
      durationNs: Number(recording.endedAtNs - recording.startedAtNs),
      kernels: inOrder(reader.kernels),
      memcpys: inOrder(reader.memcpys),
      memsets: inOrder(reader.memsets),
      apiCalls: inOrder(reader.apiCalls),
      droppedRecords: dropped + reader.untimedRecords,
    }
  }

  async #disable({ kinds }: Recording): Promise<void> {
    for (const kind of kinds.splice(0)) await this.#cupti.cuptiActivityDisable.async(kind)
  }

  async #end(recording: Recording): Promise<void> {
    try {
      await this.#disable(recording)
      if (recording.subscriber !== undefined) await this.#cupti.cuptiUnsubscribe.async(recording.subscriber)
    } finally {
      this.#freeBytes = 0
      this.#recording = undefined
    }
  }

  /** C function pointers live as long as the process: made once, for whichever session there is. */
  #callbacks(): Callbacks {
    owner = {
      lend: (...places) => this.#lend(...places),
      takeBack: (buffer, validBytes) => this.#takeBack(buffer, validBytes),
    }
    callbacks ??= {
      requested: declareCallback(
        c.bufferRequestedPrototype,
        (buffer: Pointer, bytes: Pointer, maxRecords: Pointer) => owner.lend(buffer, bytes, maxRecords),
      ),
      completed: declareCallback(
        c.bufferCompletedPrototype,
        (_context: Pointer, _stream: number, buffer: Pointer, _bytes: number, validBytes: number) =>
          owner.takeBack(buffer, validBytes),
      ),
      // None of its callbacks is ever enabled.
      subscriber: declareCallback(c.subscriberPrototype, () => undefined),
    }
    return callbacks
  }

  /** Writes what CUPTI asks for: a buffer, or null when there is no memory left for more. */
  #lend(buffer: Pointer, bytes: Pointer, maxRecords: Pointer): void {
    const memory = this.#freeBytes >= bufferBytes ? new ArrayBuffer(bufferBytes) : undefined
    const address = memory === undefined ? 0n : addressOf(memory)
    if (memory === undefined) {
      this.#endWhenFull()
    } else {
      this.#freeBytes -= bufferBytes
      this.#lent.set(address, memory)
    }
    writeWord(buffer, address)
    writeWord(bytes, BigInt(memory?.byteLength ?? 0))
    writeWord(maxRecords, 0n) // as many as fit
  }

  /** CUPTI would ask again for every record, which makes the work slow, and a recording with holes tells nothing. */
  #endWhenFull(): void {
    const recording = this.#recording
    if (recording === undefined || recording.endedAtNs !== undefined) return
    recording.endedAtNs = process.hrtime.bigint()
    void this.#disable(recording).catch(() => undefined) // the stop tells
  }

  #takeBack(address: Pointer, validBytes: number): void {
    const buffer = this.#lent.get(address)
    this.#lent.delete(address)
    if (buffer !== undefined) this.#completed.push({ buffer, validBytes })
  }

  /** The same moment by both clocks: of a few tries the one in which the least time passed between them. */
  #readClocks(): { readonly originNs: bigint; readonly startedAtNs: bigint } {
    const tries = Array.from({ length: 5 }, () => {
      const timestamp = new BigUint64Array(1)
      const beforeNs = process.hrtime.bigint()
      this.#cupti.cuptiGetTimestamp(timestamp)
      const tookNs = process.hrtime.bigint() - beforeNs
      return { originNs: timestamp[0]!, startedAtNs: beforeNs + tookNs / 2n, tookNs }
    })
    return tries.reduce((best, each) => (each.tookNs < best.tookNs ? each : best))
  }

  async #leaveOutPolling(): Promise<void> {
    for (const callbackId of [
      c.CUPTI_DRIVER_TRACE_CBID_cuEventQuery,
      c.CUPTI_DRIVER_TRACE_CBID_cuStreamQuery,
    ])
      await this.#cupti.cuptiActivityEnableDriverApi?.async(callbackId, 0)
  }
}

interface Recording {
  /** Enabled. */
  readonly kinds: number[]
  subscriber: c.CuptiSubscriber | undefined
  /** The start by CUPTI's clock. */
  readonly originNs: bigint
  /** The start and the end by process.hrtime. */
  readonly startedAtNs: bigint
  endedAtNs: bigint | undefined
}

interface Callbacks {
  readonly requested: Pointer
  readonly completed: Pointer
  readonly subscriber: Pointer
}

let callbacks: Callbacks | undefined
let owner: {
  lend(buffer: Pointer, bytes: Pointer, maxRecords: Pointer): void
  takeBack(buffer: Pointer, validBytes: number): void
}

function checkVersion(cupti: c.Cupti): void {
  const version = readOut<number>((out) => cupti.cuptiGetVersion(out))
  if (knownCuptiVersions.some(({ first, last }) => version >= first && version <= last)) return
  const supported = knownCuptiVersions.map(({ cuda }) => `CUDA ${cuda}`).join(', ')
  throw new EmbedError('CUPTI_VERSION', { path: cupti.path, version, supported })
}

function inOrder<Item extends { readonly startNs: number }>(items: Item[]): Item[] {
  return items.sort((a, b) => a.startNs - b.startNs)
}

function writeWord(to: Pointer, value: bigint): void {
  new BigUint64Array(viewMemory(to, 8))[0] = value
}
