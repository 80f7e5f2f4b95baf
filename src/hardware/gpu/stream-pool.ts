/** The four streams that a batch passes through. Events join the stages of one batch and nothing else, so the copies of
 * one batch run beside the kernels of its neighbours. */
import { EmbedError } from '../../errors.ts'
import type { GpuContext } from './context.ts'
import { GpuEvent, type WaitMode } from './event.ts'
import { GpuStream } from './stream.ts'

/** In the order a batch passes them. */
export const streamNames = ['tokenize', 'h2d', 'compute', 'd2h'] as const
export type StreamName = (typeof streamNames)[number]

/** What a batch enqueues on each stream; a stage may be left out. */
export type BatchStages = { readonly [Name in StreamName]?: (stream: GpuStream) => void }

/** Since the first batch of the pool began, by the GPU's clock. */
export type StageTimes = {
  readonly [Name in StreamName]?: { readonly fromMs: number; readonly toMs: number }
}

export interface StreamPoolOptions {
  /** Take time stamps around every stage. Default false. */
  readonly timing?: boolean
  /** How the end of a batch is waited for. Default 'poll'. */
  readonly wait?: WaitMode
}

interface StageEvents {
  readonly name: StreamName
  readonly from: GpuEvent | undefined
  readonly to: GpuEvent
}

export class StreamPool implements Disposable {
  readonly streams: Readonly<Record<StreamName, GpuStream>>
  readonly #gpu: GpuContext
  readonly #timing: boolean
  readonly #wait: WaitMode | undefined
  readonly #idleEvents: GpuEvent[] = []
  #origin: GpuEvent | undefined
  #isFreed = false

  constructor(gpu: GpuContext, options: StreamPoolOptions = {}) {
    this.#gpu = gpu
    this.#timing = options.timing ?? false
    this.#wait = options.wait
    this.streams = Object.fromEntries(
      streamNames.map((name) => [name, new GpuStream(gpu, name)]),
    ) as unknown as Record<StreamName, GpuStream>
  }

  /** Enqueues a batch at once; settles when the GPU is done with it, also when a stage fails: only then may the batch's
   * buffers be used again.
   * @throws {EmbedError} CUDA_STATUS, USED_AFTER_FREE, or what a stage throws */
  async runBatch(stages: BatchStages): Promise<StageTimes> {
    if (this.#isFreed) throw new EmbedError('USED_AFTER_FREE', { resource: 'the stream pool' })
    const passed: StageEvents[] = []
    try {
      for (const name of streamNames) {
        const stage = stages[name]
        if (stage !== undefined) this.#enqueue(name, stage, passed)
      }
      await passed.at(-1)?.to.done(this.#wait)
      return this.#readTimes(passed)
    } catch (error) {
      // What was enqueued before still runs. Its own failure, if any, is the one being thrown.
      await Promise.allSettled(Object.values(this.streams).map((stream) => stream.idle()))
      throw error
    } finally {
      for (const { from, to } of passed) this.#idleEvents.push(...(from === undefined ? [to] : [from, to]))
      if (this.#isFreed) this.#freeEvents()
    }
  }

  /** Batches under way still finish. */
  [Symbol.dispose](): void {
    this.#isFreed = true
    this.#freeEvents()
    this.#origin?.[Symbol.dispose]()
    this.#origin = undefined
    for (const name of [...streamNames].reverse()) this.streams[name][Symbol.dispose]()
  }

  #enqueue(name: StreamName, stage: (stream: GpuStream) => void, passed: StageEvents[]): void {
    const stream = this.streams[name]
    const previous = passed.at(-1)
    if (previous !== undefined) stream.waitFor(previous.to)
    if (this.#timing) this.#origin ??= this.#record(stream)
    const from = this.#timing ? this.#record(stream) : undefined
    stage(stream)
    passed.push({ name, from, to: this.#record(stream) })
  }

  #freeEvents(): void {
    for (const event of this.#idleEvents.splice(0)) event[Symbol.dispose]()
  }

  #record(stream: GpuStream): GpuEvent {
    const event = this.#idleEvents.pop() ?? new GpuEvent(this.#gpu, { timing: this.#timing })
    event.record(stream)
    return event
  }

  #readTimes(passed: readonly StageEvents[]): StageTimes {
    const origin = this.#origin
    if (origin === undefined) return {}
    return Object.fromEntries(
      passed.map(({ name, from, to }) => [
        name,
        { fromMs: from!.elapsedMsSince(origin), toMs: to.elapsedMsSince(origin) },
      ]),
    )
  }
}
