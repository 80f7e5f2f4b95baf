/** What the stages tell of themselves: typed diagnostics channels, free when nobody listens.
 * Prometheus, the dashboard, the tuner and the profiler subscribe; no stage knows them. */
import { channel } from 'node:diagnostics_channel'

/** Whose work it was. Compared by identity, never looked into. */
export interface Provenance {
  /** The pipeline that published: several may live in one process. */
  readonly source?: object | undefined
  /** What the caller gave as EmbedRequest.origin. */
  readonly origin?: object | undefined
}

export interface TokenizeDone extends Provenance {
  readonly texts: number
  readonly tokens: number
  readonly truncatedTexts: number
  /** On the pipeline's monotonic clock. */
  readonly startedMs?: number
  readonly durationMs: number
}

export interface BatchDone extends Omit<Provenance, 'origin'> {
  readonly engine: string
  readonly sequences: number
  readonly tokens: number
  /** sequences x longest sequence: what a rectangular engine computes. */
  readonly paddedTokens: number
  /** Tokens of each sequence. */
  readonly lengths?: readonly number[]
  /** Wait of the batch's oldest input. */
  readonly queueWaitMs: number
  readonly inferenceMs: number
  /** Code of the error when the batch failed. */
  readonly failure?: string
}

/** A batch that a request had inputs in. */
export interface RequestBatch {
  /** On the pipeline's monotonic clock. */
  readonly startedMs: number
  readonly inferenceMs: number
  /** Sequences, those of other requests included. */
  readonly batchSize: number
  readonly batchTokens: number
}

export interface RequestDone extends Provenance {
  readonly inputs: number
  readonly tokens: number
  /** On the pipeline's monotonic clock. */
  readonly startedMs?: number
  readonly durationMs: number
  /** 'ok' or the code of the error. */
  readonly outcome: string
  /** Lane of the queue: 'high' or 'normal'. */
  readonly priority?: string | undefined
  /** Longest wait of its inputs for their batch; until it gave up when it was cancelled or late, unknown when it failed
   * otherwise. */
  readonly queueWaitMs?: number | undefined
  // Below: known only when the outcome is 'ok'.
  readonly tokenizeMs?: number | undefined
  /** Longest time of its batches in the engine. */
  readonly inferenceMs?: number | undefined
  readonly truncatedInputs?: number | undefined
  readonly truncatedTokens?: number | undefined
  readonly batches?: readonly RequestBatch[] | undefined
}

export interface EngineState {
  /** The engine of a pipeline, as the pipeline knows it. */
  readonly source?: object | undefined
  readonly engine: string
  /** False while a dead engine is being replaced. */
  readonly isHealthy: boolean
  readonly reason: string
}

export interface TypedChannel<Message extends object> {
  readonly hasSubscribers: boolean
  publish(message: Message): void
  subscribe(listener: (message: Message) => void): void
  unsubscribe(listener: (message: Message) => void): void
}

export const tokenizeDone: TypedChannel<TokenizeDone> = typed('akidb:tokenize.done')
export const batchDone: TypedChannel<BatchDone> = typed('akidb:batch.done')
export const requestDone: TypedChannel<RequestDone> = typed('akidb:request.done')
export const engineState: TypedChannel<EngineState> = typed('akidb:engine.state')

function typed<Message extends object>(name: string): TypedChannel<Message> {
  return channel(name) as unknown as TypedChannel<Message>
}
