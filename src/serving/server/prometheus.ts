/** What the server tells Prometheus: listens to the telemetry of its own pipeline and to the ends of its requests. */
import { Registry } from 'prom-client'
import {
  type Provenance,
  type TypedChannel,
  batchDone,
  engineState,
  requestDone,
  tokenizeDone,
} from '../../telemetry/channels.ts'
import type { MetricSource } from '../../telemetry/metric-source.ts'
import type { ServerContext } from './context.ts'
import { createAkidbMetrics } from './metrics/akidb-metrics.ts'
import { getProcessRegistry } from './metrics/process-metrics.ts'
import { registerSource } from './metrics/register-source.ts'
import { SlidingMean, windowSeconds } from './metrics/sliding-mean.ts'
import { createTeiMetrics } from './metrics/tei-metrics.ts'
import type { RequestEndListener } from './request-end.ts'

/** What GET /stats answers. */
export interface Stats {
  readonly ready: boolean
  readonly windowSeconds: number
  /** Answered in the window. */
  readonly requests: number
  readonly averageBatchSize: number
  readonly averageLatencyMs: number
  readonly queue: { readonly requests: number; readonly tokens: number; readonly waitingInputs: number }
}

export interface ServerMetrics extends Disposable {
  readonly contentType: string
  /** Prometheus' text format. */
  expose(): Promise<string>
  readStats(): Stats
  readonly onRequestEnd: RequestEndListener
}

/** Dispose it to stop listening. @param sources measurements from outside, e.g. of a GPU */
export function createServerMetrics(
  context: ServerContext,
  sources: readonly MetricSource[] = [],
): ServerMetrics {
  const registry = new Registry()
  const processRegistry = getProcessRegistry()
  const averages = { batchSize: new SlidingMean(), latencyMs: new SlidingMean() }
  const sets = [createAkidbMetrics(registry, context, averages)]
  if (context.config.metricNames === 'tei') sets.push(createTeiMetrics(registry, context))
  for (const source of [...sources, ...engineSources(context)]) registerSource(registry, source)

  // The channels are the process's; another server's pipeline must not show here. A pipeline that a reload has
  // replaced still finishes what it accepted.
  const pipelines = new WeakSet<object>()
  const isOurs = ({ source }: Provenance): boolean => {
    if (source === undefined) return false
    if (source === context.pipeline) pipelines.add(source)
    return pipelines.has(source)
  }
  const stops = [
    listen(tokenizeDone, isOurs, (message) => {
      for (const set of sets) set.onTokenizeDone?.(message)
    }),
    listen(batchDone, isOurs, (message) => {
      if (message.failure === undefined) averages.batchSize.add(message.sequences)
      for (const set of sets) set.onBatchDone?.(message)
    }),
    listen(requestDone, isOurs, (message) => {
      if (message.outcome === 'ok') averages.latencyMs.add(message.durationMs)
      for (const set of sets) set.onRequestDone?.(message)
    }),
    listen(
      engineState,
      ({ source }) => source === context.pipeline.engine,
      (message) => {
        for (const set of sets) set.onEngineState?.(message)
      },
    ),
  ]
  return {
    contentType: registry.contentType,
    expose: async () => (await registry.metrics()) + (await processRegistry.metrics()),
    readStats: () => ({
      ready: context.isReady(),
      windowSeconds,
      requests: averages.latencyMs.count,
      averageBatchSize: averages.batchSize.mean,
      averageLatencyMs: averages.latencyMs.mean,
      queue: context.pipeline.queueState,
    }),
    onRequestEnd: (end) => {
      for (const set of sets) set.onRequestEnd?.(end)
    },
    [Symbol.dispose]() {
      for (const stop of stops) stop()
    },
  }
}

/** @returns how to stop it */
function listen<Message extends Provenance>(
  channel: TypedChannel<Message>,
  isOurs: (message: Provenance) => boolean,
  onMessage: (message: Message) => void,
): () => void {
  const listener = (message: Message): void => {
    if (isOurs(message)) onMessage(message)
  }
  channel.subscribe(listener)
  return () => channel.unsubscribe(listener)
}

/** The engine's own measurements, of whichever engine serves at the scrape. */
function engineSources(context: ServerContext): MetricSource[] {
  const list = () => context.pipeline.engine.metrics ?? []
  return list().map((source) => ({
    ...source,
    read: () =>
      list()
        .find(({ name }) => name === source.name)
        ?.read() ?? [],
  }))
}
