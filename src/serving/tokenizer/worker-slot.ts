import type { Worker } from 'node:worker_threads'
import { EmbedError, toReason } from '../../errors.ts'
import { countChars } from './tokenizer-core.ts'
import type { TokenizeOptions } from './tokenizer.ts'

export interface WorkerStart {
  readonly tokenizerPath: string
}
export interface WorkerRequest {
  readonly requestId: number
  readonly texts: readonly string[]
  readonly options: TokenizeOptions
}
export type WorkerAnswer =
  | { readonly kind: 'ready' }
  | { readonly kind: 'encoded'; readonly requestId: number; readonly packed: Int32Array<ArrayBuffer> }
  | { readonly kind: 'failed'; readonly requestId: number; readonly reason: string }

interface PendingRequest {
  readonly chars: number
  resolve(packed: Int32Array): void
  reject(error: EmbedError): void
}

/** A place for one tokenizer thread. When its thread dies, what it had in hand fails and a new thread takes over:
 * at once if the old one had got as far as starting, else with the next request, so a broken start cannot spin. */
export class WorkerSlot implements AsyncDisposable {
  /** Characters sent and not yet answered. */
  busyChars = 0
  readonly #createWorker: () => Worker
  readonly #pending = new Map<number, PendingRequest>()
  #running: { worker: Worker; ready: Promise<void> } | undefined
  #nextRequestId = 0
  #disposed = false

  constructor(createWorker: () => Worker) {
    this.#createWorker = createWorker
  }

  /** Resolves when the thread has loaded its tokenizer.   @throws {EmbedError} TOKENIZER_FAILED */
  start(): Promise<void> {
    this.#running ??= this.#launch()
    return this.#running.ready
  }

  /** @returns the layout of packed-encoding.ts   @throws {EmbedError} TOKENIZER_FAILED */
  encode(texts: readonly string[], options: TokenizeOptions): Promise<Int32Array> {
    if (this.#disposed) return Promise.reject(failure('the tokenizer is disposed'))
    const { worker, ready } = (this.#running ??= this.#launch())
    ready.catch(() => undefined) // the request's own rejection tells it
    const requestId = this.#nextRequestId++
    const chars = countChars(texts)
    return new Promise((resolve, reject) => {
      this.#pending.set(requestId, { chars, resolve, reject })
      this.busyChars += chars
      worker.ref()
      worker.postMessage({ requestId, texts, options } satisfies WorkerRequest)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true
    const running = this.#running
    this.#running = undefined
    this.#failAll(failure('the tokenizer is disposed'))
    await running?.worker.terminate()
  }

  #launch(): { worker: Worker; ready: Promise<void> } {
    const worker = this.#createWorker()
    let started = false
    let cause: unknown
    const ready = new Promise<void>((resolve, reject) => {
      worker.on('message', (answer: WorkerAnswer) => {
        if (answer.kind !== 'ready') return this.#settle(worker, answer)
        started = true
        if (this.#pending.size === 0) worker.unref() // an idle thread keeps no process alive
        resolve()
      })
      worker.on('error', (error) => (cause = error))
      worker.on('messageerror', (error) => {
        cause = error
        void worker.terminate()
      })
      worker.on('exit', (exitCode) => {
        const why = cause === undefined ? `exit code ${exitCode}` : toReason(cause)
        const error = failure(`its thread stopped: ${why}`, cause)
        reject(error)
        if (this.#running?.worker !== worker) return
        this.#running = undefined
        this.#failAll(error)
        if (started) this.start().catch(() => undefined) // the next request tries again and tells
      })
    })
    return { worker, ready }
  }

  #settle(worker: Worker, answer: Exclude<WorkerAnswer, { kind: 'ready' }>): void {
    const request = this.#pending.get(answer.requestId)
    if (request === undefined) return
    this.#pending.delete(answer.requestId)
    this.busyChars -= request.chars
    if (this.#pending.size === 0) worker.unref()
    if (answer.kind === 'encoded') request.resolve(answer.packed)
    else request.reject(failure(answer.reason))
  }

  #failAll(error: EmbedError): void {
    const requests = [...this.#pending.values()]
    this.#pending.clear()
    this.busyChars = 0
    for (const request of requests) request.reject(error)
  }
}

function failure(reason: string, cause?: unknown): EmbedError {
  return new EmbedError('TOKENIZER_FAILED', { reason }, { cause })
}
