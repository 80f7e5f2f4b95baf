/** The metrics of text-embeddings-inference, by its names, types, labels and buckets.
 * @see router/src/prometheus.rs, core/src/infer.rs and core/src/queue.rs of its source */
import { Counter, Histogram, type Registry } from 'prom-client'
import type { ErrorCode } from '../../../errors.ts'
import type { BatchDone, RequestDone } from '../../../telemetry/channels.ts'
import type { ServerContext } from '../context.ts'
import type { MetricSet } from './metric-set.ts'
import { registerGauge } from './register-source.ts'

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
  OUTPUT_NOT_SUPPORTED: 'model_type',
  ENGINE_FAILED: 'inference',
  ENGINE_OUT_OF_MEMORY: 'inference',
  NON_FINITE_OUTPUT: 'inference',
  INTERNAL: 'inference',
  REQUEST_CANCELLED: 'dropped',
} satisfies Partial<Record<ErrorCode, string>>

export function createTeiMetrics(registry: Registry, context: ServerContext): MetricSet {
  const registers = [registry]
  const counter = (name: string, help: string, labelNames: string[] = []) =>
    new Counter({ name, help, labelNames, registers })
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name, help, buckets, registers })
  const duration = (name: string, help: string) => histogram(name, help, durationBuckets())

  const requestCount = counter('te_request_count', 'Requests to embed', ['method'])
  const requestSuccess = counter('te_request_success', 'Requests to embed that were answered', ['method'])
  const embedCount = counter('te_embed_count', 'Inputs to embed')
  const embedSuccess = counter('te_embed_success', 'Inputs that were embedded')
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
  const inputLength = histogram(
    'te_request_input_length',
    'Tokens an input',
    powersOfTwo(20).filter((bound) => bound <= context.pipeline.spec.maxTokens),
  )
  const batchSize = histogram('te_batch_next_size', 'Inputs a batch', powersOfTwo(13))
  const batchTokens = histogram('te_batch_next_tokens', 'Tokens a batch', powersOfTwo(21))
  registerGauge(
    registry,
    'te_queue_size',
    'Inputs that wait for a batch',
    () => context.pipeline.queueState.waitingInputs,
  )
  // TEI shows this one from the first failure on.
  let failure: Counter | undefined

  return {
    onBatchDone({ failure: code, sequences, tokens, lengths = [] }: BatchDone) {
      if (code !== undefined) return
      batchSize.observe(sequences)
      batchTokens.observe(tokens)
      for (const length of lengths) inputLength.observe(length)
    },
    onRequestDone(done: RequestDone) {
      const method = done.inputs === 1 ? 'single' : 'batch'
      requestCount.inc({ method })
      embedCount.inc(done.inputs)
      if (done.outcome !== 'ok') {
        failure ??= counter('te_request_failure', 'Requests that failed', ['err'])
        failure.inc({ err: failureByCode[done.outcome] ?? 'validation' })
        return
      }
      requestSuccess.inc({ method })
      embedSuccess.inc(done.inputs)
      const { durationMs, tokenizeMs = 0, queueWaitMs = 0, inferenceMs = 0 } = done
      requestDuration.observe(durationMs / 1000)
      requestTokenization.observe(tokenizeMs / 1000)
      requestQueue.observe(queueWaitMs / 1000)
      requestInference.observe(inferenceMs / 1000)
      for (let input = 0; input < done.inputs; input++) {
        embedDuration.observe(durationMs / 1000)
        embedTokenization.observe(tokenizeMs / 1000)
        embedQueue.observe(queueWaitMs / 1000)
        embedInference.observe(inferenceMs / 1000)
      }
    },
  }
}

/** 15 us to 14.6 s, each half as long again as the one before. */
function durationBuckets(): number[] {
  const buckets: number[] = []
  for (let bound = 0.00001 * 1.5; buckets.length < 35; bound *= 1.5) buckets.push(bound)
  return buckets
}

function powersOfTwo(count: number): number[] {
  return Array.from({ length: count }, (_, i) => 2 ** i)
}
