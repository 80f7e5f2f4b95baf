import { afterEach, expect, it } from 'vitest'
import { Exposition } from '../../../test/fixtures/exposition.ts'
import { loadConfig } from '../../config/load.ts'
import { type BatchDone, batchDone, engineState, requestDone } from '../../telemetry/channels.ts'
import type { ServerContext } from './context.ts'
import { type ServerMetrics, createServerMetrics } from './prometheus.ts'

let metrics: ServerMetrics
afterEach(() => metrics[Symbol.dispose]())

const info = { name: 'onnx', precision: 'fp32', device: 'CPU', memoryBytes: 7 }
const toPipeline = (name: string): object => ({
  engine: { info: { ...info, name } },
  queueState: { requests: 1, tokens: 2, waitingInputs: 3 },
})

function start(pipeline: object, isReady = true): { pipeline: object } {
  const context = { config: loadConfig(), modelName: 'm', pipeline, isReady: () => isReady }
  metrics = createServerMetrics(context as unknown as ServerContext)
  return context
}

const expose = async (): Promise<Exposition> => new Exposition(await metrics.expose())
const batch: BatchDone = {
  engine: 'onnx',
  sequences: 4,
  tokens: 40,
  paddedTokens: 50,
  queueWaitMs: 1,
  inferenceMs: 20,
}

it('follows a reload: both pipelines are ours, a third is not', async () => {
  const [first, second, foreign] = ['first', 'second', 'foreign'].map(toPipeline) as [object, object, object]
  const context = start(first)
  batchDone.publish({ ...batch, source: first })
  context.pipeline = second
  batchDone.publish({ ...batch, source: second })
  // What the first had accepted ends after the change.
  batchDone.publish({ ...batch, source: first })
  batchDone.publish({ ...batch, source: foreign })
  batchDone.publish(batch)
  const exposed = await expose()
  expect(exposed.value('embed_batch_size_count')).toBe(3)
  expect(exposed.metrics.get('embed_engine_info')!.samples.map((sample) => sample.labels['engine'])).toEqual([
    'second',
  ])
})

it('leaves failed batches and requests out of what it measures', async () => {
  const source = toPipeline('onnx')
  start(source)
  batchDone.publish({ ...batch, source, failure: 'ENGINE_FAILED', inferenceMs: 0 })
  requestDone.publish({ source, inputs: 9, tokens: 0, durationMs: 5, outcome: 'ENGINE_FAILED' })
  requestDone.publish({
    source,
    inputs: 2,
    tokens: 9,
    durationMs: 8,
    outcome: 'ok',
    priority: 'high',
    queueWaitMs: 30,
  })
  const exposed = await expose()
  expect(exposed.value('embed_batch_size_count')).toBe(0)
  expect(exposed.value('embed_inputs_total')).toBe(2)
  expect(exposed.value('embed_queue_wait_seconds_sum', { priority: 'high' })).toBe(0.03)
  expect(exposed.value('embed_average_latency_seconds')).toBe(0.008)
  expect(metrics.readStats()).toMatchObject({ requests: 1, averageLatencyMs: 8, averageBatchSize: 0 })
})

it('counts restarts of its own engine', async () => {
  const pipeline = toPipeline('onnx') as { engine: object }
  start(pipeline)
  const state = { engine: 'onnx', reason: 'device lost' }
  engineState.publish({ ...state, source: pipeline.engine, isHealthy: false })
  engineState.publish({ ...state, source: pipeline.engine, isHealthy: true })
  engineState.publish({ ...state, source: {}, isHealthy: true })
  expect((await expose()).value('embed_engine_restarts_total')).toBe(1)
})

it('is not ready while the server stops', async () => {
  start(toPipeline('onnx'), false)
  expect((await expose()).value('embed_ready')).toBe(0)
  expect(metrics.readStats().ready).toBe(false)
})

it('gives every metric of ours a unit, a kind and a sentence', async () => {
  start(toPipeline('onnx'))
  const exposed = await expose()
  for (const [name, { type, help }] of exposed.metrics) {
    if (!name.startsWith('embed_')) continue
    expect(help, name).toMatch(/^[A-Z].{15,}[^.]$/)
    expect(name.endsWith('_total'), name).toBe(type === 'counter')
    if (type === 'histogram') expect(name).toMatch(/_(seconds|tokens|ratio|size)$/)
  }
  const process = [
    'process_resident_memory_bytes',
    'process_cpu_seconds_total',
    'nodejs_eventloop_lag_p99_seconds',
  ]
  expect(exposed.names).toEqual(expect.arrayContaining(process))
})
