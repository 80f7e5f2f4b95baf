/** OpenTelemetry traces: a span a request, and below it tokenisation, queue and inference. Loaded only when a collector
 * is configured; nothing is registered globally, so that a host program keeps its own tracing.
 * @see opentelemetry.io/docs/specs/semconv/http/http-spans, w3.org/TR/trace-context */
import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  defaultTextMapGetter,
  trace,
} from '@opentelemetry/api'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../../../config/schema.ts'
import {
  type RequestDone,
  type TokenizeDone,
  requestDone,
  tokenizeDone,
} from '../../../telemetry/channels.ts'
import { isServerFault } from '../error-handler.ts'
import type { RequestEndListener } from '../request-end.ts'
import { createTracerProvider } from './tracer-provider.ts'

export interface Tracing {
  readonly onRequestEnd: RequestEndListener
}

interface TracedRequest {
  readonly span: Span
  /** Parent of the stages' spans. */
  readonly context: Context
  /** When its texts had become tokens. */
  tokenizedMs?: number
}

/** Asked every few seconds by machines. */
const untracedRoutes: ReadonlySet<string | undefined> = new Set([
  '/',
  '/livez',
  '/readyz',
  '/health',
  '/ping',
  '/metrics',
  '/stats',
])

/** Spans of batches that one request draws at most; a list of thousands would bury the rest of its trace. */
const maxInferenceSpans = 32

const propagator = new W3CTraceContextPropagator()

/** Hooks into the app; flushed and stopped when the app closes.   @throws {EmbedError} CONFIG_INVALID */
export function startTracing(app: FastifyInstance, config: Config, version: string): Tracing {
  const provider = createTracerProvider(config, version, app.log)
  const tracer = provider.getTracer('akidb-embedding', version)
  const traced = new WeakMap<object, TracedRequest>()

  app.addHook('onRequest', (request, reply, done) => {
    const route = request.routeOptions.url
    if (!untracedRoutes.has(route)) {
      const attributes = {
        'http.request.method': request.method,
        'url.scheme': request.protocol,
        ...(route === undefined ? {} : { 'http.route': route }),
      }
      const parent = propagator.extract(ROOT_CONTEXT, request.headers, defaultTextMapGetter)
      const name = route === undefined ? request.method : `${request.method} ${route}`
      const span = tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, parent)
      const context = trace.setSpan(parent, span)
      propagator.inject(context, reply, { set: (carrier, key, value) => void carrier.header(key, value) })
      request.log = reply.log = request.log.child({ traceId: span.spanContext().traceId })
      // What is not sampled is passed on and otherwise left alone.
      if (span.isRecording()) traced.set(request, { span, context })
    }
    done()
  })

  const onTokenizeDone = ({ origin, startedMs, durationMs, texts, tokens }: TokenizeDone): void => {
    const request = origin && traced.get(origin)
    if (request === undefined || startedMs === undefined) return
    request.tokenizedMs = startedMs + durationMs
    draw(tracer, request, 'tokenize', startedMs, durationMs, {
      'embed.inputs': texts,
      'embed.tokens': tokens,
    })
  }
  const onRequestDone = (done: RequestDone): void => {
    const request = done.origin && traced.get(done.origin)
    if (request !== undefined) drawStages(tracer, request, done)
  }
  tokenizeDone.subscribe(onTokenizeDone)
  requestDone.subscribe(onRequestDone)
  app.addHook('onClose', async () => {
    tokenizeDone.unsubscribe(onTokenizeDone)
    requestDone.unsubscribe(onRequestDone)
    await provider[Symbol.asyncDispose]()
  })
  return {
    onRequestEnd: ({ request, status, outcome }) => {
      const span = traced.get(request)?.span
      if (span === undefined) return
      span.setAttribute('http.response.status_code', status)
      if (outcome !== 'ok') {
        span.setAttribute('error.type', outcome)
        if (isServerFault(outcome)) span.setStatus({ code: SpanStatusCode.ERROR, message: outcome })
      }
      span.end()
    },
  }
}

function drawStages(tracer: Tracer, request: TracedRequest, done: RequestDone): void {
  const { inputs, tokens, startedMs = 0, durationMs, outcome, queueWaitMs = 0, batches = [] } = done
  request.span.setAttributes({
    'embed.inputs': inputs,
    'embed.tokens': tokens,
    'embed.batches': batches.length,
  })
  const { tokenizedMs } = request
  if (tokenizedMs === undefined) return
  if (outcome !== 'ok') {
    // Where it failed, in the queue or in the engine, the code tells.
    const restMs = startedMs + durationMs - tokenizedMs
    draw(tracer, request, 'queue', tokenizedMs, restMs, { 'error.type': outcome })
    return
  }
  draw(tracer, request, 'queue', tokenizedMs, queueWaitMs)
  for (const batch of batches.slice(0, maxInferenceSpans)) {
    draw(tracer, request, 'inference', batch.startedMs, batch.inferenceMs, {
      'embed.batch_size': batch.batchSize,
      'embed.batch_tokens': batch.batchTokens,
    })
  }
}

/** A span of the past. @param startMs on the clock of performance.now() */
function draw(
  tracer: Tracer,
  { context }: TracedRequest,
  name: string,
  startMs: number,
  durationMs: number,
  attributes: Attributes = {},
): void {
  tracer.startSpan(name, { startTime: startMs, attributes }, context).end(startMs + durationMs)
}
