/** CUPTI's side of a recording: asks for records, lends it buffers, reads what comes back.
 *
 * CUPTI takes and returns buffers on whatever thread it is on, inside calls that launch kernels too, and the callback waits
 * there for the event loop of the thread that declared it. So this runs on a thread of its own (activity-worker.ts): one
 * that launches would wait for CUPTI while CUPTI waits for it. For the same reason all calls that may meet a launch are
 * made in asynchronous form. */
import { EmbedError } from '../../errors.ts'
import * as c from '../ffi/cupti.ts'
import { knownCuptiVersions } from '../ffi/cupti-records.ts'
import { declareCallback, type Pointer, readOut, readOutAsync } from '../ffi/library.ts'
import type { GpuActivity } from './activity.ts'
import { ActivityBuffers, type FilledBuffer } from './activity-buffers.ts'
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

export class ActivitySession {
  readonly #cupti: c.Cupti
  readonly #buffers = new ActivityBuffers(() => this.#endWhenFull())
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
    const recording: Recording = { kinds: [], isStarted: false, ...this.#readClocks() }
    this.#recording = recording
    try {
      // Fails where another profiler is at work.
      subscriberCallback ??= declareCallback(c.subscriberPrototype, () => undefined)
      const callback = subscriberCallback
      recording.subscriber = readOut<c.CuptiSubscriber>((out) => cupti.cuptiSubscribe(out, callback, null))
      cupti.cuptiActivitySetAttribute(c.CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER, [1], Uint8Array.of(1))
      const { requested, completed } = this.#buffers.callbacks()
      cupti.cuptiActivityRegisterCallbacks(requested, completed)
      readOut<number>((out) => cupti.cuptiActivityGetNumDroppedRecords(null, 0, out))
      this.#buffers.open(maxBufferBytes)
      for (const kind of apiCalls ? [...deviceKinds, ...apiKinds] : deviceKinds) {
        await cupti.cuptiActivityEnable.async(kind)
        recording.kinds.push(kind)
      }
      if (apiCalls) await this.#leaveOutPolling()
      recording.isStarted = true
      if (recording.endedAtNs !== undefined) await this.#disable(recording)
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
    let filled: readonly FilledBuffer[] = []
    try {
      await this.#disable(recording)
      await cupti.cuptiActivityFlushAll.async(0)
      await cupti.cuptiActivityFlushAll.async(c.CUPTI_ACTIVITY_FLAG_FLUSH_FORCED)
      filled = this.#buffers.close()
    } finally {
      await this.#end(recording)
    }
    const reader = new ActivityReader(cupti, recording.originNs)
    for (const { buffer, validBytes } of filled) reader.read(buffer, validBytes)
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
      unfinishedKernels: reader.unfinishedKernels,
      droppedRecords: dropped + reader.untimedRecords,
    }
  }

  /** Once, however often it is asked for. */
  async #disable(recording: Recording): Promise<void> {
    const disable = async () => {
      for (const kind of recording.kinds) await this.#cupti.cuptiActivityDisable.async(kind)
    }
    await (recording.disabling ??= disable())
  }

  async #end(recording: Recording): Promise<void> {
    try {
      await this.#disable(recording)
    } finally {
      this.#buffers.close()
      this.#recording = undefined
      if (recording.subscriber !== undefined) await this.#cupti.cuptiUnsubscribe.async(recording.subscriber)
    }
  }

  /** CUPTI would ask again for every record, which makes the work slow, and a recording with holes tells nothing. */
  #endWhenFull(): void {
    const recording = this.#recording
    if (recording === undefined || recording.endedAtNs !== undefined) return
    recording.endedAtNs = process.hrtime.bigint()
    if (recording.isStarted) this.#disable(recording).catch(() => undefined) // the stop tells
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
  /** All are. */
  isStarted: boolean
  subscriber?: c.CuptiSubscriber
  disabling?: Promise<void>
  /** The start by CUPTI's clock. */
  readonly originNs: bigint
  /** The start and the end by process.hrtime. */
  readonly startedAtNs: bigint
  endedAtNs?: bigint
}

/** cuptiSubscribe wants one; none of the events it could be called for is ever enabled. */
let subscriberCallback: Pointer | undefined

function checkVersion(cupti: c.Cupti): void {
  const version = readOut<number>((out) => cupti.cuptiGetVersion(out))
  if (knownCuptiVersions.some(({ first, last }) => version >= first && version <= last)) return
  const supported = knownCuptiVersions.map(({ cuda }) => `CUDA ${cuda}`).join(', ')
  throw new EmbedError('CUPTI_VERSION', { path: cupti.path, version, supported })
}

function inOrder<Item extends { readonly startNs: number }>(items: Item[]): Item[] {
  return items.sort((a, b) => a.startNs - b.startNs)
}
