/** The way of spans to a collector: sampled, batched, sent as OTLP over HTTP; never in the way of a request. */
import type { TracerProvider } from '@opentelemetry/api'
import type { ExportResult } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources'
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  ParentBasedSampler,
  type ReadableSpan,
  type SpanExporter,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace-node'
import type { FastifyBaseLogger } from 'fastify'
import type { Config } from '../../../config/schema.ts'
import { EmbedError } from '../../../errors.ts'

/** An export that takes longer is given up. */
const exportTimeoutMs = 5000
/** Closing waits this long for the last spans. */
const shutdownTimeoutMs = 2000
/** Spans that wait to be sent; more are dropped. Four seconds of 500 requests, five spans each. */
const maxQueuedSpans = 10_000

/** Dispose it to send what is left, within a bound.   @throws {EmbedError} CONFIG_INVALID */
export function createTracerProvider(
  config: Config,
  version: string,
  log: FastifyBaseLogger,
): TracerProvider & AsyncDisposable {
  const url = toTracesUrl(config.otlpEndpoint!)
  const exporter = new WarningExporter(
    new OTLPTraceExporter({ url, timeoutMillis: exportTimeoutMs }),
    (reason) => log.warn({ url }, `traces are lost until the collector answers: ${reason}`),
  )
  const provider = new BasicTracerProvider({
    // OTEL_RESOURCE_ATTRIBUTES is read by OpenTelemetry itself, as OTEL_EXPORTER_OTLP_HEADERS is.
    resource: detectResources({ detectors: [envDetector] }).merge(
      resourceFromAttributes({ 'service.name': config.otlpServiceName, 'service.version': version }),
    ),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(config.traceSampleRatio) }),
    spanProcessors: [
      new BatchSpanProcessor(exporter, {
        maxQueueSize: maxQueuedSpans,
        exportTimeoutMillis: exportTimeoutMs,
      }),
    ],
  })
  return {
    getTracer: (name, tracerVersion) => provider.getTracer(name, tracerVersion),
    async [Symbol.asyncDispose]() {
      const { promise: timeout, cancel } = startTimeout(shutdownTimeoutMs)
      // A collector that cannot be reached was told of when it was first missed.
      await Promise.race([provider.shutdown().catch(() => undefined), timeout])
      cancel()
    },
  }
}

/** The collector's base URL, as OTEL_EXPORTER_OTLP_ENDPOINT has it, or the whole one.
 * @throws {EmbedError} CONFIG_INVALID */
export function toTracesUrl(endpoint: string): string {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw new EmbedError('CONFIG_INVALID', {
      reason: `otlpEndpoint is "${endpoint}"; it takes a URL such as http://127.0.0.1:4318`,
    })
  }
  if (!url.pathname.endsWith('/v1/traces')) url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/traces`
  return url.href
}

/** Tells of the first export of a series that fails. */
class WarningExporter implements SpanExporter {
  readonly #exporter: SpanExporter
  readonly #warn: (reason: string) => void
  #isFailing = false

  constructor(exporter: SpanExporter, warn: (reason: string) => void) {
    this.#exporter = exporter
    this.#warn = warn
  }

  export(spans: ReadableSpan[], onResult: (result: ExportResult) => void): void {
    this.#exporter.export(spans, (result) => {
      const { error } = result
      if (error !== undefined && !this.#isFailing) this.#warn(error.message)
      this.#isFailing = error !== undefined
      onResult(result)
    })
  }

  async shutdown(): Promise<void> {
    await this.#exporter.shutdown()
  }

  async forceFlush(): Promise<void> {
    await this.#exporter.forceFlush?.()
  }
}

function startTimeout(delayMs: number): { promise: Promise<void>; cancel: () => void } {
  let timer: NodeJS.Timeout
  const promise = new Promise<void>((resolve) => (timer = setTimeout(resolve, delayMs)))
  return { promise, cancel: () => clearTimeout(timer) }
}
