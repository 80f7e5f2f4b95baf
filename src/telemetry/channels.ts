/** What the stages tell of themselves: typed diagnostics channels, free when nobody listens.
 * Prometheus, the dashboard, the tuner and the profiler subscribe; no stage knows them. */
import { channel } from 'node:diagnostics_channel'

export interface TokenizeDone {
  readonly texts: number
  readonly tokens: number
  readonly truncatedTexts: number
  readonly durationMs: number
}

export interface BatchDone {
  readonly engine: string
  readonly sequences: number
  readonly tokens: number
  /** sequences x longest sequence: what a rectangular engine computes. */
  readonly paddedTokens: number
  /** Wait of the batch's oldest input. */
  readonly queueWaitMs: number
  readonly inferenceMs: number
  /** Code of the error when the batch failed. */
  readonly failure?: string
}

export interface RequestDone {
  readonly inputs: number
  readonly tokens: number
  readonly durationMs: number
  /** 'ok' or the code of the error. */
  readonly outcome: string
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

function typed<Message extends object>(name: string): TypedChannel<Message> {
  return channel(name) as unknown as TypedChannel<Message>
}
