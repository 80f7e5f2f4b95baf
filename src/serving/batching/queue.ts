/** Admission: a request is taken whole or refused whole, settles exactly once, and frees its place at that moment. */
import { EmbedError } from '../../errors.ts'
import type { RequestBatch } from '../../telemetry/channels.ts'
import type { Clock } from './clock.ts'

export type Output = 'pooled' | 'tokens'

/** One sequence on its way through the batcher. */
export interface QueuedInput {
  /** Place in its request. */
  readonly index: number
  readonly ids: Int32Array
  readonly output: Output
  readonly arrivalMs: number
  /** The request is still wanted. */
  readonly isLive: () => boolean
  /** @param rows f32 [1 or ids.length, dimensions], a part of the batch's result */
  readonly resolve: (rows: Float32Array, batch: RequestBatch) => void
  readonly reject: (error: EmbedError) => void
}

export interface AdmittedResult {
  /** One an input, in order. */
  readonly rows: readonly Float32Array[]
  /** Longest wait of its inputs for their batch. */
  readonly queueMs: number
  /** Longest time of its batches in the engine. */
  readonly inferenceMs: number
  readonly batches: readonly RequestBatch[]
}

export interface QueueLimits {
  readonly maxQueuedRequests: number
  readonly maxQueuedTokens: number
}

export interface AdmitOptions {
  readonly output?: Output
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

export class RequestQueue {
  readonly #limits: QueueLimits
  readonly #clock: Clock
  #waiting: QueuedInput[] = []
  #requestCount = 0
  #tokenCount = 0
  #closed = false
  #onArrival: () => void = noop
  #onIdle: (() => void)[] = []
  /** Exponential mean of tokens done a millisecond, for Retry-After. */
  #drainTokensPerMs = 0
  #lastDrainMs: number | undefined

  constructor(limits: QueueLimits, clock: Clock) {
    this.#limits = limits
    this.#clock = clock
  }

  /** Requests accepted and not yet settled. */
  get requestCount(): number {
    return this.#requestCount
  }

  /** Tokens accepted and not yet settled. */
  get tokenCount(): number {
    return this.#tokenCount
  }

  /** Inputs that wait for a batch, oldest first; the batcher removes what it takes. */
  get waiting(): readonly QueuedInput[] {
    return this.#waiting
  }

  set onArrival(listener: () => void) {
    this.#onArrival = listener
  }

  /** Takes a tokenised request and gives its rows in order.
   * @throws {EmbedError} QUEUE_FULL, REQUEST_TOO_LARGE, SHUTTING_DOWN, REQUEST_TIMEOUT, REQUEST_CANCELLED,
   * or what the engine answered for the input */
  async admit(sequences: readonly Int32Array[], options: AdmitOptions): Promise<AdmittedResult> {
    if (this.#closed) throw new EmbedError('SHUTTING_DOWN', {})
    if (options.signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {})
    const tokens = sequences.reduce((sum, ids) => sum + ids.length, 0)
    this.checkRoom(tokens)

    this.#requestCount++
    this.#tokenCount += tokens
    const arrivalMs = this.#clock.nowMs()
    const results: Float32Array[] = Array.from({ length: sequences.length })
    let missing = sequences.length
    const batches: RequestBatch[] = []
    let live = true
    let release = noop
    try {
      await new Promise<void>((resolve, reject) => {
        const fail = (error: EmbedError): void => {
          if (!live) return
          live = false
          reject(error)
        }
        const cancelTimer = this.#clock.schedule(options.timeoutMs, () =>
          fail(new EmbedError('REQUEST_TIMEOUT', { timeoutMs: options.timeoutMs })),
        )
        const onAbort = (): void => fail(new EmbedError('REQUEST_CANCELLED', {}))
        options.signal?.addEventListener('abort', onAbort, { once: true })
        release = () => {
          cancelTimer()
          options.signal?.removeEventListener('abort', onAbort)
        }
        for (const [i, ids] of sequences.entries()) {
          this.#waiting.push({
            index: i,
            ids,
            output: options.output ?? 'pooled',
            arrivalMs,
            isLive: () => live,
            resolve: (rows, batch) => {
              if (!live) return
              results[i] = rows
              // The inputs of one batch resolve one after the other.
              if (batches.at(-1) !== batch) batches.push(batch)
              missing--
              if (missing > 0) return
              live = false
              resolve()
            },
            reject: fail,
          })
        }
        if (sequences.length === 0) resolve()
        this.#onArrival()
      })
    } finally {
      live = false
      release()
      this.#requestCount--
      this.#tokenCount -= tokens
      this.#dropDead()
      this.#noteDrain(tokens)
      if (this.#requestCount === 0) for (const wake of this.#onIdle.splice(0)) wake()
    }
    return {
      rows: results,
      queueMs: Math.max(0, ...batches.map((batch) => batch.startedMs - arrivalMs)),
      inferenceMs: Math.max(0, ...batches.map((batch) => batch.inferenceMs)),
      batches,
    }
  }

  /** Refuses what cannot be taken now; also asked before tokenising, with an estimate.
   * @throws {EmbedError} QUEUE_FULL, REQUEST_TOO_LARGE */
  checkRoom(tokens: number): void {
    const { maxQueuedRequests, maxQueuedTokens } = this.#limits
    if (tokens > maxQueuedTokens) throw new EmbedError('REQUEST_TOO_LARGE', { tokens, maxQueuedTokens })
    if (this.#requestCount < maxQueuedRequests && this.#tokenCount + tokens <= maxQueuedTokens) return
    throw new EmbedError('QUEUE_FULL', {
      queuedRequests: this.#requestCount,
      maxQueuedRequests,
      queuedTokens: this.#tokenCount,
      maxQueuedTokens,
      retryAfterMs: this.#estimateDrainMs(),
    })
  }

  /** Removes inputs that were put into a batch. */
  remove(taken: ReadonlySet<QueuedInput>): void {
    this.#waiting = this.#waiting.filter((input) => !taken.has(input))
  }

  /** Refuses new requests from now on. */
  close(): void {
    this.#closed = true
  }

  /** Settles when every accepted request has. */
  async whenIdle(): Promise<void> {
    if (this.#requestCount > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve))
  }

  #dropDead(): void {
    if (this.#waiting.some((input) => !input.isLive())) {
      this.#waiting = this.#waiting.filter((input) => input.isLive())
    }
  }

  #noteDrain(tokens: number): void {
    const nowMs = this.#clock.nowMs()
    const elapsedMs = nowMs - (this.#lastDrainMs ?? nowMs)
    this.#lastDrainMs = nowMs
    if (elapsedMs <= 0) return
    const weight = 1 - Math.exp(-elapsedMs / 1000)
    this.#drainTokensPerMs += weight * (tokens / elapsedMs - this.#drainTokensPerMs)
  }

  /** Until half of what waits is done, at the rate of the last second. */
  #estimateDrainMs(): number {
    const rate = this.#drainTokensPerMs
    return rate > 0 ? Math.min(60_000, Math.max(100, Math.ceil(this.#tokenCount / 2 / rate))) : 1000
  }
}

function noop(): void {}
