/** The metrics of docs/metrics.md, in base units. */
import type { Registry } from 'prom-client'
import type { ErrorCode } from '../../../errors.ts'
import type { BatchDone, EngineState, RequestDone, TokenizeDone } from '../../../telemetry/channels.ts'
import type { ServerContext } from '../context.ts'
import type { RequestEnd } from '../request-end.ts'
import { MetricFactory } from './families.ts'
import type { MetricSet } from './metric-set.ts'
import { registerSource } from './register-source.ts'
import type { SlidingMean } from './sliding-mean.ts'

const latencyBuckets = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60]
const tokenizeBuckets = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1]
const paddingBuckets = [0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1]

/** Refused for the sake of the others; to be told apart from what is wrong with a request. */
const rejectionCodes: ReadonlySet<string> = new Set<ErrorCode>([
  'QUEUE_FULL',
  'OVER_OBJECTIVE',
  'REQUEST_TOO_LARGE',
  'SHUTTING_DOWN',
])

export interface Averages {
  readonly batchSize: SlidingMean
  readonly latencyMs: SlidingMean
}

export function createAkidbMetrics(
  registry: Registry,
  context: ServerContext,
  averages: Averages,
): MetricSet {
  const make = new MetricFactory(registry)

  const requests = make.counters(
    'embed_requests_total',
    'HTTP requests by route, status and outcome (ok or the error code)',
    ['route', 'status', 'outcome'],
  )
  const requestDuration = make.histograms(
    'embed_request_duration_seconds',
    'Time from the arrival of a request to the last byte of its answer',
    latencyBuckets,
    ['route'],
  )
  const failures = make.counters(
    'embed_failures_total',
    'HTTP requests that were not answered with a result, by error code',
    ['code'],
  )
  const rejections = make.counters(
    'embed_rejections_total',
    'Requests that were refused: the queue is full, the answer would come too late, they could never fit, or the server stops',
    ['code'],
  )
  for (const code of rejectionCodes) rejections.of(code) // shown as 0 before the first
  const cancellations = make.counter(
    'embed_cancellations_total',
    'Requests whose client left before the answer',
  )
  const inputs = make.counter('embed_inputs_total', 'Inputs (texts or token lists) that were embedded')
  const tokens = make.counter('embed_tokens_total', 'Tokens that were embedded, padding not counted')
  const truncatedInputs = make.counter('embed_truncated_inputs_total', "Inputs cut to the model's length")
  const truncatedTokens = make.counter('embed_truncated_tokens_total', 'Tokens cut off by that')

  const tokenizeDuration = make.histogram(
    'embed_tokenize_duration_seconds',
    'Time to turn the texts of a request into tokens',
    tokenizeBuckets,
  )
  const queueWait = make.histograms(
    'embed_queue_wait_seconds',
    'Time that a request waited for the engine: the longest wait of its inputs; of one that timed out or whose client left, the time until then',
    latencyBuckets,
    ['priority'],
  )
  make.gauge(
    'embed_queue_requests',
    'Requests accepted and not yet answered',
    () => context.pipeline.queueState.requests,
  )
  make.gauge('embed_queue_tokens', 'Tokens of those requests', () => context.pipeline.queueState.tokens)
  make.gauge(
    'embed_queue_inputs',
    'Inputs that wait for a batch',
    () => context.pipeline.queueState.waitingInputs,
  )

  const batchSize = make.histogram(
    'embed_batch_size',
    'Inputs that ran together in one batch',
    powersOfTwo(0, 10),
  )
  const batchTokens = make.histogram(
    'embed_batch_tokens',
    'Tokens in one batch, padding not counted',
    powersOfTwo(3, 17),
  )
  const paddingRatio = make.histogram(
    'embed_batch_padding_ratio',
    'Share of a batch that is padding to its longest input: work for nothing',
    paddingBuckets,
  )
  const inferenceDuration = make.histogram(
    'embed_inference_duration_seconds',
    'Time of one batch in the engine',
    latencyBuckets,
  )
  make.gauge(
    'embed_average_batch_size',
    'Mean inputs a batch over the last minute; 0 when there was none',
    () => averages.batchSize.mean,
  )
  make.gauge(
    'embed_average_latency_seconds',
    'Mean time of an answered request in the pipeline over the last minute; 0 when there was none',
    () => averages.latencyMs.mean / 1000,
  )

  make.gauge('embed_ready', 'Whether the server takes requests and its engine is fine: 1 or 0', () =>
    Number(context.isReady()),
  )
  make.gauge(
    'embed_latency_objective_seconds',
    'The objective for the 95th percentile (targetP95Ms); 0 when none is set',
    () => (context.config.targetP95Ms ?? 0) / 1000,
  )
  const engineRestarts = make.counter('embed_engine_restarts_total', 'Engines that died and were replaced')
  make.gauge(
    'embed_engine_memory_bytes',
    'Memory that the engine holds, as far as it can tell',
    () => context.pipeline.engine.info.memoryBytes,
  )
  registerSource(registry, {
    name: 'embed_engine_info',
    help: 'What runs the model; the value is always 1',
    type: 'gauge',
    labelNames: ['engine', 'precision', 'device', 'model'],
    read() {
      const { name, precision, device } = context.pipeline.engine.info
      return [{ labels: { engine: name, precision, device, model: context.modelName }, value: 1 }]
    },
  })

  return {
    onRequestEnd({ route, status, outcome, durationMs }: RequestEnd) {
      requests.of(route, String(status), outcome).inc()
      requestDuration.of(route).observe(durationMs / 1000)
      if (outcome === 'ok') return
      failures.of(outcome).inc()
      if (rejectionCodes.has(outcome)) rejections.of(outcome).inc()
      if (outcome === 'REQUEST_CANCELLED') cancellations.inc()
    },
    onTokenizeDone({ durationMs }: TokenizeDone) {
      tokenizeDuration.observe(durationMs / 1000)
    },
    onEngineState({ isHealthy }: EngineState) {
      if (isHealthy) engineRestarts.inc()
    },
    onBatchDone(batch: BatchDone) {
      if (batch.failure !== undefined) return
      batchSize.observe(batch.sequences)
      batchTokens.observe(batch.tokens)
      paddingRatio.observe(1 - batch.tokens / batch.paddedTokens)
      inferenceDuration.observe(batch.inferenceMs / 1000)
    },
    onRequestDone(done: RequestDone) {
      const { queueWaitMs } = done
      if (queueWaitMs !== undefined) queueWait.of(done.priority ?? 'normal').observe(queueWaitMs / 1000)
      if (done.outcome !== 'ok') return
      inputs.inc(done.inputs)
      tokens.inc(done.tokens)
      truncatedInputs.inc(done.truncatedInputs)
      truncatedTokens.inc(done.truncatedTokens)
    },
  }
}

function powersOfTwo(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => 2 ** (from + i))
}
