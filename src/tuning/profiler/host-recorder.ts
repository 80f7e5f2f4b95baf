/** What the host does while it is recorded: the spans that telemetry tells of, the event loop, the process's CPU time. */
import { performance } from 'node:perf_hooks'
import {
  type BatchDone,
  batchDone,
  type Provenance,
  type RequestDone,
  requestDone,
  type TokenizeDone,
  tokenizeDone,
} from '../../telemetry/channels.ts'
import type { HostSpan } from './records.ts'

export interface HostRecording {
  /** On the clock of performance.now(). */
  readonly startedMs: number
  readonly endedMs: number
  readonly spans: readonly HostSpan[]
  /** Spans for which there was no room: the stages' tables miss them, the sums below do not. */
  readonly droppedSpans: number
  readonly texts: number
  readonly tokens: number
  /** Cells of the batches' rectangles: what an engine computes that pads. */
  readonly paddedTokens: number
  readonly batches: number
  readonly failedRequests: number
  /** Share of the time that the event loop's thread worked, 0 to 1. */
  readonly eventLoopUtilisation: number
  /** CPU time of all threads of the process. */
  readonly cpuMs: number
}

/** A request has four spans; some 200 bytes each. */
const maxSpansByDefault = 100_000

/** Records from its making until stop(). */
export class HostRecorder implements Disposable {
  readonly #isOurs: (message: Provenance) => boolean
  readonly #maxSpans: number
  readonly #startedMs = performance.now()
  readonly #loop = performance.eventLoopUtilization()
  readonly #cpu = process.cpuUsage()
  readonly #spans: HostSpan[] = []
  #dropped = 0
  readonly #sums = { texts: 0, tokens: 0, paddedTokens: 0, batches: 0, failedRequests: 0 }

  /** @param isOurs which pipeline's work counts: several may live in one process */
  constructor(isOurs: (message: Provenance) => boolean, maxSpans: number = maxSpansByDefault) {
    this.#isOurs = isOurs
    this.#maxSpans = maxSpans
    requestDone.subscribe(this.#onRequest)
    tokenizeDone.subscribe(this.#onTokenize)
    batchDone.subscribe(this.#onBatch)
  }

  stop(): HostRecording {
    const loop = performance.eventLoopUtilization(this.#loop)
    const cpu = process.cpuUsage(this.#cpu)
    this[Symbol.dispose]()
    return {
      startedMs: this.#startedMs,
      endedMs: performance.now(),
      spans: this.#spans,
      droppedSpans: this.#dropped,
      ...this.#sums,
      eventLoopUtilisation: loop.utilization,
      cpuMs: (cpu.user + cpu.system) / 1e3,
    }
  }

  [Symbol.dispose](): void {
    requestDone.unsubscribe(this.#onRequest)
    tokenizeDone.unsubscribe(this.#onTokenize)
    batchDone.unsubscribe(this.#onBatch)
  }

  readonly #onRequest = (done: RequestDone): void => {
    const { startedMs, durationMs, outcome, inputs, tokens, tokenizeMs, queueWaitMs } = done
    if (!this.#isOurs(done) || startedMs === undefined) return
    if (outcome === 'ok') this.#sums.texts += inputs
    else this.#sums.failedRequests++
    const details = { inputs, tokens, outcome }
    this.#add({ track: 'requests', name: `${inputs} texts`, startedMs, durationMs, details })
    if (queueWaitMs === undefined || tokenizeMs === undefined) return
    this.#add({
      track: 'queue',
      name: 'wait for a batch',
      startedMs: startedMs + tokenizeMs,
      durationMs: queueWaitMs,
    })
  }

  readonly #onTokenize = (done: TokenizeDone): void => {
    const { startedMs, durationMs, texts, tokens } = done
    if (!this.#isOurs(done) || startedMs === undefined) return
    const details = { texts, tokens }
    this.#add({ track: 'tokenize', name: `${texts} texts`, startedMs, durationMs, details })
  }

  readonly #onBatch = (done: BatchDone): void => {
    if (!this.#isOurs(done)) return
    const { sequences, tokens, paddedTokens, inferenceMs, engine, failure } = done
    const sums = this.#sums
    sums.batches++
    sums.tokens += tokens
    sums.paddedTokens += paddedTokens
    this.#add({
      track: 'batches',
      name: `${sequences} x ${Math.round(paddedTokens / sequences)}`,
      // It is told as soon as the engine is done.
      startedMs: performance.now() - inferenceMs,
      durationMs: inferenceMs,
      details: { engine, sequences, tokens, ...(failure === undefined ? {} : { failure }) },
    })
  }

  #add(span: HostSpan): void {
    if (this.#spans.length < this.#maxSpans) this.#spans.push(span)
    else this.#dropped++
  }
}
