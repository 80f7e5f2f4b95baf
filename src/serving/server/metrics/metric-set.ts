import type { BatchDone, EngineState, RequestDone, TokenizeDone } from '../../../telemetry/channels.ts'
import type { RequestEnd } from '../request-end.ts'

/** A family of metrics: what it does with each thing that happens. All of it is this server's. */
export interface MetricSet {
  onRequestEnd?(end: RequestEnd): void
  onTokenizeDone?(message: TokenizeDone): void
  onBatchDone?(message: BatchDone): void
  onRequestDone?(message: RequestDone): void
  onEngineState?(message: EngineState): void
}
