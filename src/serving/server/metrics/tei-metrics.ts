/** The metrics of text-embeddings-inference, by its names, types, labels and buckets.
 * @see router/src/prometheus.rs, core/src/infer.rs and core/src/queue.rs of its source */
import type { Registry } from 'prom-client'
import type { ErrorCode } from '../../../errors.ts'
import type { BatchDone, RequestDone } from '../../../telemetry/channels.ts'
import type { ServerContext } from '../context.ts'
import { type CounterSeries, type Family, MetricFactory } from './families.ts'
import type { MetricSet } from './metric-set.ts'

/** TEI's word for the failure, where it has one; ours that it lacks are validation. */
const failureByCode: Readonly<Record<string, string>> = {
  TOKENIZER_FAILED: 'tokenization',
  INPUT_TOO_LONG: 'tokenization',
  INVALID_TOKEN_ID: 'tokenization',
  UNKNOWN_PROMPT: 'tokenization',
  TEXT_TOO_LARGE: 'tokenization',
  QUEUE_FULL: 'overloaded',
  OVER_OBJECTIVE: 'overloaded',
  REQUEST_TIMEOUT: 'overloaded',
  SHUTTING_DOWN: 'overloaded',
  REQUEST_TOO_LARGE: 'batch_size',
  TOKEN_OUTPUT_TOO_LARGE: 'batch_size',
  OUTPUT_NOT_SUPPORTED: 'model_type',
  ENGINE_FAILED: 'inference',
  ENGINE_OUT_OF_MEMORY: 'inference',
  NON_FINITE_OUTPUT: 'inference',
  INTERNAL: 'inference',
  REQUEST_CANCELLED: 'dropped',
} satisfies Partial<Record<ErrorCode, string>>

export function createTeiMetrics(registry: Registry, context: ServerContext): MetricSet {
  const make = new MetricFactory(registry)
  const duration = (name: string, help: string) => make.histogram(name, help, durationBounds())

  const requestCount = make.counters('te_request_count', 'Requests to embed', ['method'])
  const requestSuccess = make.counters('te_request_success', 'Requests to embed that were answered', [
    'method',
  ])
  const embedCount = make.counter('te_embed_count', 'Inputs to embed')
  const embedSuccess = make.counter('te_embed_success', 'Inputs that were embedded')
  const requestDuration = duration('te_request_duration', 'Seconds a request')
  const requestTokenization = duration(
    'te_request_tokenization_duration',
    'Seconds of tokenisation a request',
  )
  const requestQueue = duration('te_request_queue_duration', 'Seconds in the queue a request')
  const requestInference = duration('te_request_inference_duration', 'Seconds of inference a request')
  const embedDuration = duration('te_embed_duration', 'Seconds an input')
  const embedTokenization = duration('te_embed_tokenization_duration', 'Seconds of tokenisation an input')
  const embedQueue = duration('te_embed_queue_duration', 'Seconds in the queue an input')
  const embedInference = duration('te_embed_inference_duration', 'Seconds of inference an input')
  const inputLength = make.histogram(
    'te_request_input_length',
    'Tokens an input',
    powersOfTwo(20).filter((bound) => bound <= context.pipeline.spec.maxTokens),
  )
  const batchSize = make.histogram('te_batch_next_size', 'Inputs a batch', powersOfTwo(13))
  const batchTokens = make.histogram('te_batch_next_tokens', 'Tokens a batch', powersOfTwo(21))
  make.gauge('te_queue_size', 'Inputs that wait for a batch', () => context.pipeline.queueState.waitingInputs)
  // TEI shows this one from the first failure on.
  let failures: Family<CounterSeries> | undefined

  return {
    onBatchDone({ failure: code, sequences, tokens, lengths = [] }: BatchDone) {
      if (code !== undefined) return
      batchSize.observe(sequences)
      batchTokens.observe(tokens)
      for (const length of lengths) inputLength.observe(length)
    },
    onRequestDone(done: RequestDone) {
      const method = done.inputs === 1 ? 'single' : 'batch'
      requestCount.of(method).inc()
      embedCount.inc(done.inputs)
      if (done.outcome !== 'ok') {
        failures ??= make.counters('te_request_failure', 'Requests that failed', ['err'])
        failures.of(failureByCode[done.outcome] ?? 'validation').inc()
        return
      }
      requestSuccess.of(method).inc()
      embedSuccess.inc(done.inputs)
      const { durationMs, tokenizeMs = 0, queueWaitMs = 0, inferenceMs = 0 } = done
      requestDuration.observe(durationMs / 1000)
      requestTokenization.observe(tokenizeMs / 1000)
      requestQueue.observe(queueWaitMs / 1000)
      requestInference.observe(inferenceMs / 1000)
      embedDuration.observe(durationMs / 1000, done.inputs)
      embedTokenization.observe(tokenizeMs / 1000, done.inputs)
      embedQueue.observe(queueWaitMs / 1000, done.inputs)
      embedInference.observe(inferenceMs / 1000, done.inputs)
    },
  }
}

/** 15 us to 14.6 s, each half as long again as the one before. */
function durationBounds(): number[] {
  const bounds: number[] = []
  for (let bound = 0.00001 * 1.5; bounds.length < 35; bound *= 1.5) bounds.push(bound)
  return bounds
}

function powersOfTwo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => 2 ** i)
}
