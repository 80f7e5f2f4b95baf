/** Records what the GPU does while engines work, by CUPTI on a thread of its own. */
import { Worker } from 'node:worker_threads'
import { EmbedError, type ErrorCode, type ErrorDetails, toReason } from '../../errors.ts'
import { keepLibraryOpen } from '../ffi/keep-open.ts'
import type { GpuActivity } from './activity.ts'
import type { RecordingOptions, SessionActivity } from './activity-session.ts'

export interface RecorderStart {
  readonly cuptiPath: string
}
export type RecorderRequest =
  | { readonly kind: 'start'; readonly options: RecordingOptions }
  | { readonly kind: 'stop' }
export type RecorderAnswer =
  | { readonly kind: 'started' }
  | { readonly kind: 'stopped'; readonly activity: SessionActivity }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly details: unknown }

export interface ActivityRecorderOptions {
  /** libcupti of the driver's CUDA version or older. */
  readonly cuptiPath: string
  /** Internal: how the thread is made. The default needs the built package. */
  readonly createWorker?: (start: RecorderStart) => Worker
}

/** One recording at a time in a process, and one recorder for all of them. Kernels in CUDA graphs are recorded one by one.
 * `await recorder.start(); await engine.embed(batch); const { kernels } = await recorder.stop()` */
export class ActivityRecorder implements AsyncDisposable {
  readonly #worker: Worker
  #answer: { resolve(answer: RecorderAnswer): void; reject(error: EmbedError): void } | undefined
  #failure: EmbedError | undefined

  /** @throws {EmbedError} LIBRARY_NOT_FOUND when it cannot be opened */
  constructor({ cuptiPath, createWorker = createActivityThread }: ActivityRecorderOptions) {
    keepOpen(cuptiPath)
    this.#worker = createWorker({ cuptiPath })
    this.#worker.on('message', (answer: RecorderAnswer) => this.#answer?.resolve(answer))
    this.#worker.on('error', (error) => this.#fail(toReason(error)))
    this.#worker.on('exit', () => this.#fail('its thread stopped'))
    this.#worker.unref() // an idle thread keeps no process alive
  }

  /** Records from now on: kernels, copies and fills, on every stream of every engine of this process.
   * @throws {EmbedError} PROFILING_NOT_PERMITTED, PROFILER_BUSY, CUPTI_VERSION, CUPTI_STATUS */
  async start(options: RecordingOptions = {}): Promise<void> {
    await this.#ask({ kind: 'start', options })
  }

  /** Ends the recording. Await the work that counts before: what is still under way is not in it.
   * @throws {EmbedError} CUPTI_STATUS */
  async stop(): Promise<GpuActivity> {
    const answer = await this.#ask({ kind: 'stop' })
    if (answer.kind !== 'stopped') throw new EmbedError('INTERNAL', { reason: `'${answer.kind}' to a stop` })
    const { startedAtNs, ...activity } = answer.activity
    const agoMs = Number(process.hrtime.bigint() - startedAtNs) / 1e6
    return { startedMs: performance.now() - agoMs, ...activity }
  }

  /** Ends a recording under way. The thread stays until the process ends: CUPTI keeps pointers to its functions. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().catch(() => undefined)
  }

  async #ask(request: RecorderRequest): Promise<RecorderAnswer> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#answer !== undefined)
      throw new EmbedError('PROFILER_BUSY', { holder: 'a call of this recorder' })
    this.#worker.ref()
    try {
      const answer = await new Promise<RecorderAnswer>((resolve, reject) => {
        this.#answer = { resolve, reject }
        this.#worker.postMessage(request)
      })
      if (answer.kind === 'failed')
        throw new EmbedError(answer.code, answer.details as ErrorDetails<ErrorCode>)
      return answer
    } finally {
      this.#answer = undefined
      this.#worker.unref()
    }
  }

  #fail(reason: string): void {
    this.#failure ??= new EmbedError('CUPTI_STATUS', { api: 'thread', status: -1, name: reason })
    this.#answer?.reject(this.#failure)
  }
}

/** CUPTI's own threads live as long as the process. */
function keepOpen(path: string): void {
  try {
    keepLibraryOpen(path)
  } catch (cause) {
    const searched = [`${path}: ${toReason(cause)}`]
    const fix = "install CUPTI anew (pip: nvidia-cuda-cupti); 'akidb-embedding doctor' tells what was found"
    throw new EmbedError('LIBRARY_NOT_FOUND', { library: 'libcupti', searched, fix }, { cause })
  }
}

function createActivityThread(workerData: RecorderStart): Worker {
  // No execArgv: flags of the process (--input-type, a loader of a test runner) are not for this file.
  return new Worker(new URL('./activity-worker.js', import.meta.url), { workerData, execArgv: [] })
}
