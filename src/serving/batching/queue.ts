/** Admission: a request is taken whole or refused whole, settles exactly once, and frees its place at that moment. */
import { EmbedError } from '../../errors.ts'
import type { RequestBatch } from '../../telemetry/channels.ts'
import type { Clock } from './clock.ts'
import { PredictionCheck } from './prediction-check.ts'
import { WaitingLine } from './waiting-line.ts'

export type Output = 'pooled' | 'tokens'
/** 'high' overtakes what is normal and came up to `priorityHeadStartMs` earlier. */
export type Priority = 'normal' | 'high'

/** One sequence on its way through the batcher. */
export interface QueuedInput {
  /** Place in its request. */
  readonly index: number
  readonly ids: Int32Array
  readonly output: Output
  readonly priority: Priority
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
  /** A normal request is refused when it could not be answered within this time. */
  readonly targetP95Ms?: number | undefined
  readonly priorityHeadStartMs: number
}

export interface AdmitOptions {
  readonly output?: Output | undefined
  readonly priority?: Priority | undefined
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/** A request's place in the queue, held from before its tokenisation until it settles. */
export interface Reservation {
  /** Gives the rows in order. Call once.
   * @throws {EmbedError} QUEUE_FULL, REQUEST_TOO_LARGE (the exact tokens do not fit), REQUEST_TIMEOUT,
   * REQUEST_CANCELLED, or what the engine answered for the input */
  submit(sequences: readonly Int32Array[], options: AdmitOptions): Promise<AdmittedResult>
  /** Frees the place; harmless when it is free already. */
  release(): void
}

export class RequestQueue {
  readonly #limits: QueueLimits
  readonly #clock: Clock
  readonly #predictDrainMs: (tokens: number) => number
  readonly #predictions = new PredictionCheck()
  readonly #lines = new Map<string, WaitingLine>()
  #requestCount = 0
  #tokenCount = 0
  #isClosed = false
  /** Moving average of what requests ask for; 0 before the first. */
  #usualTokens = 0
  /** The last refusal of `refusal`, and when it was made: under overload the error itself is a large part of its cost.
   * It holds until a request frees its place. */
  #lastRefusal: { readonly error: EmbedError; readonly madeMs: number } | undefined
  #onArrival: (inputs: number, priority: Priority) => void = noop
  readonly #onIdle: (() => void)[] = []

  /** @param predictDrainMs time until so many tokens are worked off; 0 while unknown */
  constructor(limits: QueueLimits, clock: Clock, predictDrainMs: (tokens: number) => number = () => 0) {
    this.#limits = limits
    this.#clock = clock
    this.#predictDrainMs = predictDrainMs
  }

  /** Requests accepted and not yet settled, those under tokenisation included. */
  get requestCount(): number {
    return this.#requestCount
  }

  /** Tokens accepted and not yet settled. */
  get tokenCount(): number {
    return this.#tokenCount
  }

  /** Inputs that wait for a batch. */
  get waitingCount(): number {
    return this.#sumOverLines((line) => line.size)
  }

  /** Their tokens. */
  get waitingTokens(): number {
    return this.#sumOverLines((line) => line.tokens)
  }

  /** Inputs that wait, those of one priority and output together. */
  *waiting(): Generator<QueuedInput> {
    for (const line of this.#lines.values()) yield* line
  }

  set onArrival(listener: (inputs: number, priority: Priority) => void) {
    this.#onArrival = listener
  }

  /** Takes a place for a request of about `estimatedTokens`, so that what is refused costs no tokenisation.
   * @throws {EmbedError} QUEUE_FULL, SHUTTING_DOWN */
  reserve(estimatedTokens: number, priority: Priority = 'normal'): Reservation {
    if (this.#isClosed) throw new EmbedError('SHUTTING_DOWN', {})
    // An estimate does not tell that a request never fits: the exact count, once it is known, does.
    let tokens = estimatedTokens > this.#limits.maxQueuedTokens ? 1 : estimatedTokens
    this.#usualTokens += (tokens - this.#usualTokens) * (this.#usualTokens === 0 ? 1 : usualTokensStep)
    this.#checkRoom(tokens, priority)
    this.#requestCount++
    this.#tokenCount += tokens
    const reservedMs = this.#clock.nowMs()
    const predictedMs = priority === 'normal' ? this.#predictDrainMs(this.#tokenCount) : 0
    const reservedTokens = tokens
    let isHeld = true
    const release = (): void => {
      if (!isHeld) return
      isHeld = false
      this.#requestCount--
      this.#tokenCount -= tokens
      this.#lastRefusal = undefined
      if (this.#requestCount === 0) for (const wake of this.#onIdle.splice(0)) wake()
    }
    return {
      release,
      submit: async (sequences, options) => {
        try {
          const exactTokens = sequences.reduce((sum, ids) => sum + ids.length, 0)
          this.#tokenCount -= tokens
          tokens = 0
          const { maxQueuedTokens } = this.#limits
          if (exactTokens > maxQueuedTokens) {
            throw new EmbedError('REQUEST_TOO_LARGE', { tokens: exactTokens, maxQueuedTokens })
          }
          if (exactTokens > reservedTokens) this.#checkRoom(exactTokens, priority, 1)
          tokens = exactTokens
          this.#tokenCount += tokens
          if (options.signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {})
          const result = await this.#settle(sequences, options)
          this.#predictions.observe(predictedMs, this.#clock.nowMs() - reservedMs)
          return result
        } finally {
          release()
        }
      },
    }
  }

  /** Why a normal request would be refused now, whatever its size or, by the objective, as one of the usual size: with
   * the least size every second request would pass here under overload, only to be refused once it is read and parsed.
   * Undefined when there is room. */
  get refusal(): EmbedError | undefined {
    const nowMs = this.#clock.nowMs()
    if (this.#lastRefusal !== undefined && nowMs - this.#lastRefusal.madeMs < refusalMemoryMs) {
      return this.#lastRefusal.error
    }
    const error = this.#isClosed
      ? new EmbedError('SHUTTING_DOWN', {})
      : (this.#findFull(1, 0) ?? this.#findLate(this.#usualTokens, 'normal', 0))
    this.#lastRefusal = error === undefined ? undefined : { error, madeMs: nowMs }
    return error
  }

  /** The line whose oldest input is next; undefined when none waits. */
  nextLine(): WaitingLine | undefined {
    let next: WaitingLine | undefined
    let nextMs = Infinity
    for (const line of this.#lines.values()) {
      const { oldest } = line
      if (oldest === undefined) continue
      // Ageing: a priority request overtakes only what came a little earlier, so nothing waits for ever.
      const headStartMs = oldest.priority === 'high' ? this.#limits.priorityHeadStartMs : 0
      if (oldest.arrivalMs - headStartMs >= nextMs) continue
      next = line
      nextMs = oldest.arrivalMs - headStartMs
    }
    return next
  }

  /** Refuses new requests from now on. */
  close(): void {
    this.#isClosed = true
    this.#lastRefusal = undefined
  }

  /** Settles when every accepted request has. */
  async whenIdle(): Promise<void> {
    if (this.#requestCount > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve))
  }

  async #settle(sequences: readonly Int32Array[], options: AdmitOptions): Promise<AdmittedResult> {
    const { output = 'pooled', priority = 'normal', timeoutMs, signal } = options
    const arrivalMs = this.#clock.nowMs()
    const rows: Float32Array[] = Array.from({ length: sequences.length })
    let missing = sequences.length
    const batches: RequestBatch[] = []
    if (missing === 0) return { rows, queueMs: 0, inferenceMs: 0, batches }
    let isLive = true
    const isStillLive = (): boolean => isLive
    const line = this.#lineOf(output, priority)
    const inputs: QueuedInput[] = []
    let release = noop
    try {
      await new Promise<void>((resolve, reject) => {
        const fail = (error: EmbedError): void => {
          if (!isLive) return
          isLive = false
          for (const input of inputs) line.delete(input)
          reject(error)
        }
        const cancelTimer = this.#clock.schedule(timeoutMs, () =>
          fail(new EmbedError('REQUEST_TIMEOUT', { timeoutMs })),
        )
        const onAbort = (): void => fail(new EmbedError('REQUEST_CANCELLED', {}))
        signal?.addEventListener('abort', onAbort, { once: true })
        release = () => {
          cancelTimer()
          signal?.removeEventListener('abort', onAbort)
        }
        for (const [index, ids] of sequences.entries()) {
          const input: QueuedInput = {
            index,
            ids,
            output,
            priority,
            arrivalMs,
            isLive: isStillLive,
            resolve: (values, batch) => {
              if (!isLive) return
              rows[index] = values
              // The inputs of one batch resolve one after the other.
              if (batches.at(-1) !== batch) batches.push(batch)
              missing--
              if (missing > 0) return
              isLive = false
              resolve()
            },
            reject: fail,
          }
          inputs.push(input)
          line.add(input)
        }
        this.#onArrival(inputs.length, priority)
      })
    } finally {
      release()
    }
    return {
      rows,
      queueMs: Math.max(...batches.map((batch) => batch.startedMs - arrivalMs)),
      inferenceMs: Math.max(...batches.map((batch) => batch.inferenceMs)),
      batches,
    }
  }

  #lineOf(output: Output, priority: Priority): WaitingLine {
    const key = `${output} ${priority}`
    let line = this.#lines.get(key)
    if (line === undefined) this.#lines.set(key, (line = new WaitingLine()))
    return line
  }

  /** @param ownRequests requests of the caller that are counted already */
  #checkRoom(tokens: number, priority: Priority, ownRequests = 0): void {
    const error = this.#findFull(tokens, ownRequests) ?? this.#findLate(tokens, priority, ownRequests)
    if (error !== undefined) throw error
  }

  #findFull(tokens: number, ownRequests: number): EmbedError | undefined {
    const { maxQueuedRequests, maxQueuedTokens } = this.#limits
    const queuedRequests = this.#requestCount - ownRequests
    const queuedTokens = this.#tokenCount
    if (queuedRequests < maxQueuedRequests && queuedTokens + tokens <= maxQueuedTokens) return undefined
    // By then half of what waits is done.
    const retryAfterMs = clampRetryMs(this.#predictDrainMs(queuedTokens / 2))
    return new EmbedError('QUEUE_FULL', {
      queuedRequests,
      maxQueuedRequests,
      queuedTokens,
      maxQueuedTokens,
      retryAfterMs,
    })
  }

  /** By the objective. */
  #findLate(tokens: number, priority: Priority, ownRequests: number): EmbedError | undefined {
    const { targetP95Ms } = this.#limits
    const queuedRequests = this.#requestCount - ownRequests
    // What an idle server cannot do in time is taken all the same: refusing it would not help.
    if (targetP95Ms === undefined || priority === 'high' || queuedRequests === 0) return undefined
    const drainMs = this.#predictDrainMs(this.#tokenCount + tokens)
    const predictedMs = Math.round(this.#predictions.toP95Ms(drainMs))
    if (predictedMs <= targetP95Ms * queueShareOfTarget) return undefined
    const retryAfterMs = clampRetryMs(predictedMs - targetP95Ms * queueShareOfTarget)
    return new EmbedError('OVER_OBJECTIVE', { predictedMs, targetP95Ms, queuedRequests, retryAfterMs })
  }

  #sumOverLines(valueOf: (line: WaitingLine) => number): number {
    let sum = 0
    for (const line of this.#lines.values()) sum += valueOf(line)
    return sum
  }
}

/** The rest of the time is for what lies outside: the request's way in, its parsing, the way out. */
const queueShareOfTarget = 0.9
/** By then the time to retry after has become another. */
const refusalMemoryMs = 50
/** About the last 30 requests count. */
const usualTokensStep = 1 / 32

function clampRetryMs(ms: number): number {
  return Math.min(60_000, Math.max(100, Math.ceil(ms)))
}

function noop(): void {}
