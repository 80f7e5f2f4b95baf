import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type BatchDone, batchDone, requestDone, tokenizeDone } from '../../src/telemetry/channels.ts'
import { Exposition } from '../fixtures/exposition.ts'
import { startArithmeticServer } from '../fixtures/start-arithmetic-server.ts'
import { type TinyServer, startTinyServer } from '../fixtures/start-tiny-server.ts'

const longText = 'the cat and the dog '.repeat(40)

async function scrape({ server }: TinyServer): Promise<Exposition> {
  const answer = await server.app.inject('/metrics')
  expect(answer.statusCode).toBe(200)
  expect(answer.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
  return new Exposition(answer.body)
}

async function post({ server }: TinyServer, url: string, payload: object): Promise<number> {
  return (await server.app.inject({ method: 'POST', url, payload })).statusCode
}

function isAnyoneListening(): boolean[] {
  return [tokenizeDone, batchDone, requestDone].map((channel) => channel.hasSubscribers)
}

describe('GET /metrics', () => {
  it('counts requests, inputs, tokens, batches and what was cut', async () => {
    await using tiny = await startTinyServer()
    const batches: BatchDone[] = []
    const keep = (batch: BatchDone): void => void batches.push(batch)
    batchDone.subscribe(keep)
    expect(await post(tiny, '/embed', { inputs: ['the cat', longText] })).toBe(200)
    expect(await post(tiny, '/v1/embeddings', { input: 'the cat' })).toBe(200)
    await tiny.server.app.inject({
      method: 'POST',
      url: '/v1/embeddings',
      payload: { input: 'the cat' },
      headers: { 'x-priority': 'high' },
    })
    batchDone.unsubscribe(keep)
    const exposed = await scrape(tiny)
    expect(exposed.value('embed_requests_total', { route: '/embed', status: '200', outcome: 'ok' })).toBe(1)
    expect(exposed.value('embed_requests_total', { route: '/v1/embeddings' })).toBe(2)
    expect(exposed.value('embed_request_duration_seconds_count', { route: '/embed' })).toBe(1)
    expect(exposed.value('embed_inputs_total')).toBe(4)
    expect(exposed.value('embed_tokens_total')).toBe(4 + 64 + 4 + 4)
    expect(exposed.value('embed_truncated_inputs_total')).toBe(1)
    const whole = await tiny.pipeline.tokenizer.encode([longText], { maxTokens: 64, truncation: 'right' })
    expect(exposed.value('embed_truncated_tokens_total')).toBe(whole[0]!.totalTokens - 64)
    expect(exposed.value('embed_batch_size_count')).toBe(batches.length)
    expect(exposed.value('embed_batch_size_sum')).toBe(4)
    expect(exposed.value('embed_batch_tokens_sum')).toBe(76)
    const padding = batches.map((batch) => 1 - batch.tokens / batch.paddedTokens)
    expect(exposed.value('embed_batch_padding_ratio_sum')).toBeCloseTo(
      padding.reduce((sum, ratio) => sum + ratio, 0),
      9,
    )
    expect(exposed.value('embed_tokenize_duration_seconds_count')).toBe(3)
    expect(exposed.value('embed_queue_wait_seconds_count', { priority: 'normal' })).toBe(2)
    expect(exposed.value('embed_queue_wait_seconds_count', { priority: 'high' })).toBe(1)
    expect(exposed.value('embed_inference_duration_seconds_count')).toBe(batches.length)
    const inferenceSeconds = exposed.value('embed_inference_duration_seconds_sum')!
    expect(inferenceSeconds).toBeGreaterThan(0)
    const requestSeconds =
      exposed.value('embed_request_duration_seconds_sum', { route: '/embed' })! +
      exposed.value('embed_request_duration_seconds_sum', { route: '/v1/embeddings' })!
    expect(requestSeconds).toBeGreaterThan(inferenceSeconds)
    expect(requestSeconds).toBeLessThan(10)
  })

  it('tells the state: ready, queue, engine, averages', async () => {
    await using tiny = await startTinyServer()
    await tiny.pipeline.embed({ inputs: Array.from({ length: 4 }, () => 'the cat'), truncation: 'right' })
    const idle = await scrape(tiny)
    expect(idle.value('embed_ready')).toBe(1)
    const { name, precision, device, memoryBytes } = tiny.pipeline.engine.info
    expect(idle.value('embed_engine_info', { engine: name, precision, device, model: 'tiny-bert' })).toBe(1)
    expect(idle.value('embed_engine_memory_bytes')).toBe(memoryBytes)
    expect(idle.value('embed_average_batch_size')).toBe(4)
    expect(idle.value('embed_average_latency_seconds')).toBeGreaterThan(0)
    expect(idle.value('embed_queue_requests')).toBe(0)

    const request = tiny.pipeline.embed({
      inputs: Array.from({ length: 500 }, () => 'the cat'),
      truncation: 'right',
    })
    await expect.poll(() => tiny.pipeline.queueState.waitingInputs, { interval: 1 }).toBeGreaterThan(0)
    const busy = await scrape(tiny)
    expect(busy.value('embed_queue_requests')).toBe(1)
    expect(busy.value('embed_queue_tokens')).toBe(2000)
    expect(busy.value('embed_queue_inputs')).toBeGreaterThan(0)
    await request
  })

  it('counts failures by code, and refusals', async () => {
    await using tiny = await startTinyServer({ maxQueuedTokens: 16 })
    const before = await scrape(tiny)
    expect(before.value('embed_rejections_total', { code: 'REQUEST_TOO_LARGE' })).toBe(0)
    expect(await post(tiny, '/embed', { inputs: longText })).toBe(413)
    expect(await post(tiny, '/v1/embeddings', { input: '' })).toBe(400)
    const exposed = await scrape(tiny)
    const labels = { route: '/embed', status: '413', outcome: 'REQUEST_TOO_LARGE' }
    expect(exposed.value('embed_requests_total', labels)).toBe(1)
    expect(exposed.value('embed_failures_total', { code: 'REQUEST_TOO_LARGE' })).toBe(1)
    expect(exposed.value('embed_failures_total', { code: 'EMPTY_INPUT' })).toBe(1)
    expect(exposed.value('embed_rejections_total', { code: 'REQUEST_TOO_LARGE' })).toBe(1)
    expect(exposed.value('embed_inputs_total')).toBe(0)
  })

  it('has one label for whatever unknown paths are asked for', async () => {
    await using tiny = await startTinyServer()
    for (let i = 0; i < 20; i++) await tiny.server.app.inject(`/secret-${i}?q=${i}`)
    await tiny.server.app.inject('/v1/models/some-name')
    const text = (await tiny.server.app.inject('/metrics')).body
    expect(text).not.toContain('secret')
    expect(text).not.toContain('some-name')
    const labels = { route: 'unmatched', status: '404', outcome: 'ROUTE_NOT_FOUND' }
    expect(new Exposition(text).value('embed_requests_total', labels)).toBe(20)
    expect(new Exposition(text).value('embed_requests_total', { route: '/v1/models/*' })).toBe(1)
  })

  it('counts a client that leaves', async () => {
    await using tiny = await startTinyServer()
    await tiny.server.listen()
    const { port } = tiny.server.app.server.address() as AddressInfo
    const body = JSON.stringify({ inputs: Array.from({ length: 2000 }, () => 'the cat and the dog') })
    const socket = connect(port, '127.0.0.1')
    socket.write(
      `POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    )
    await expect.poll(() => tiny.pipeline.queueState.requests, { interval: 1 }).toBe(1)
    socket.destroy()
    await expect.poll(() => tiny.pipeline.queueState.requests, { interval: 1 }).toBe(0)
    const exposed = await scrape(tiny)
    expect(exposed.value('embed_cancellations_total')).toBe(1)
    const labels = { route: '/embed', status: '499', outcome: 'REQUEST_CANCELLED' }
    expect(exposed.value('embed_requests_total', labels)).toBe(1)
  })

  it('tells how long a request waited that gave up', async () => {
    await using running = await startArithmeticServer({ maxBatchSize: 1 }, { durationMs: 600 })
    const ask = (timeoutMs: number) =>
      fetch(`${running.url}/embed`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-request-timeout-ms': String(timeoutMs) },
        body: '{"inputs":"a"}',
      })
    const first = ask(5000)
    await expect.poll(() => running.engine.running).toBe(1)
    expect((await ask(200)).status).toBe(504)
    const scraped = new Exposition(await (await fetch(`${running.url}/metrics`)).text())
    const labels = { priority: 'normal' }
    expect(scraped.value('embed_queue_wait_seconds_count', labels)).toBe(1)
    expect(scraped.value('embed_queue_wait_seconds_sum', labels)).toBeGreaterThan(0.15)
    await first
  })

  it('shows what is measured elsewhere, read at each scrape', async () => {
    let watts = 300
    await using tiny = await startTinyServer(
      {},
      {
        metricSources: [
          {
            name: 'gpu_power_watts',
            help: 'Power drawn',
            type: 'gauge',
            labelNames: ['gpu'],
            read: () => [{ labels: { gpu: '0' }, value: watts }],
          },
          {
            name: 'gpu_energy_joules_total',
            help: 'Energy used',
            type: 'counter',
            labelNames: ['gpu'],
            read: () => [{ labels: { gpu: '0' }, value: watts * 2 }],
          },
        ],
      },
    )
    expect((await scrape(tiny)).value('gpu_power_watts', { gpu: '0' })).toBe(300)
    watts = 310
    const exposed = await scrape(tiny)
    expect(exposed.value('gpu_power_watts', { gpu: '0' })).toBe(310)
    expect(exposed.value('gpu_energy_joules_total', { gpu: '0' })).toBe(620)
  })
})

describe('servers in one process', () => {
  it('count their own work only, and stop listening when closed', async () => {
    expect(isAnyoneListening()).toEqual([false, false, false])
    {
      await using first = await startTinyServer()
      await using second = await startTinyServer()
      await post(first, '/embed', { inputs: ['the cat', 'a dog'] })
      await post(second, '/embed', { inputs: 'the cat' })
      for (const [tiny, inputs] of [
        [first, 2],
        [second, 1],
      ] as const) {
        const exposed = await scrape(tiny)
        expect(exposed.value('embed_inputs_total')).toBe(inputs)
        expect(exposed.value('embed_batch_size_sum')).toBe(inputs)
        expect(exposed.value('embed_requests_total', { route: '/embed' })).toBe(1)
        expect(exposed.value('embed_tokenize_duration_seconds_count')).toBe(1)
      }
      expect(isAnyoneListening()).toEqual([true, true, true])
    }
    expect(isAnyoneListening()).toEqual([false, false, false])
  })

  it('measure nothing with metrics off', async () => {
    await using tiny = await startTinyServer({ metrics: false })
    expect(requestDone.hasSubscribers).toBe(false)
    expect((await tiny.server.app.inject('/metrics')).statusCode).toBe(404)
    expect((await tiny.server.app.inject('/stats')).statusCode).toBe(404)
  })
})

describe('GET /stats', () => {
  it('tells averages and the queue', async () => {
    await using tiny = await startTinyServer()
    await post(tiny, '/embed', { inputs: ['the cat', 'a dog', 'the cat'] })
    const stats = (await tiny.server.app.inject('/stats')).json<Record<string, number>>()
    expect(stats).toEqual({
      ready: true,
      windowSeconds: 60,
      requests: 1,
      averageBatchSize: 3,
      averageLatencyMs: expect.any(Number) as number,
      queue: { requests: 0, tokens: 0, waitingInputs: 0 },
    })
    expect(stats['averageLatencyMs']).toBeGreaterThan(0)
    const exposed = await scrape(tiny)
    expect(exposed.value('embed_average_latency_seconds')).toBeCloseTo(stats['averageLatencyMs']! / 1000, 9)
  })
})

describe('metricNames: tei', () => {
  let tiny: TinyServer
  let exposed: Exposition
  beforeAll(async () => {
    tiny = await startTinyServer({ metricNames: 'tei' })
    await post(tiny, '/embed', { inputs: ['the cat', 'a dog', longText] })
    await post(tiny, '/v1/embeddings', { input: 'the cat' })
    exposed = await scrape(tiny)
  })
  afterAll(() => tiny[Symbol.asyncDispose]())

  it("adds TEI's names with TEI's types", () => {
    const fixture = new URL('../fixtures/tei-metric-names.txt', import.meta.url)
    const expected = readFileSync(fixture, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(' ').slice(2))
    const types = [...exposed.metrics]
      .filter(([name]) => name.startsWith('te_'))
      .map(([name, { type }]) => [name, type])
    expect(Object.fromEntries(types)).toEqual(Object.fromEntries(expected))
    expect(exposed.names).toContain('embed_requests_total')
  })

  it("counts as TEI does, in TEI's buckets", () => {
    expect(exposed.value('te_request_count', { method: 'batch' })).toBe(1)
    expect(exposed.value('te_request_success', { method: 'single' })).toBe(1)
    expect(exposed.value('te_embed_count')).toBe(4)
    expect(exposed.value('te_embed_success')).toBe(4)
    expect(exposed.value('te_request_duration_count')).toBe(2)
    expect(exposed.value('te_embed_inference_duration_count')).toBe(4)
    expect(exposed.value('te_request_input_length_count')).toBe(4)
    expect(exposed.value('te_request_input_length_bucket', { le: '4' })).toBe(3)
    expect(exposed.value('te_batch_next_tokens_sum')).toBe(4 + 4 + 64 + 4)
    expect(exposed.value('te_queue_size')).toBe(0)
    const boundsOf = (name: string) =>
      exposed.metrics
        .get(name)!
        .samples.filter((sample) => sample.name.endsWith('_bucket'))
        .map((sample) => sample.labels['le'])
    expect(boundsOf('te_batch_next_size').slice(-3)).toEqual(['2048', '4096', '+Inf'])
    expect(boundsOf('te_batch_next_tokens').at(-2)).toBe('1048576')
    expect(boundsOf('te_request_input_length')).toEqual(['1', '2', '4', '8', '16', '32', '64', '+Inf'])
    const durations = boundsOf('te_embed_duration')
    expect(durations).toHaveLength(36)
    expect(Number(durations[0])).toBeCloseTo(0.000015, 12)
    expect(Number(durations[34])).toBeCloseTo(0.00001 * 1.5 ** 35, 9)
  })

  it("names failures in TEI's words, from the first on", async () => {
    await post(tiny, '/v1/embeddings', { input: longText })
    await post(tiny, '/embed', { inputs: '' })
    const after = await scrape(tiny)
    expect(after.metrics.get('te_request_failure')!.type).toBe('counter')
    expect(after.value('te_request_failure', { err: 'tokenization' })).toBe(1)
    expect(after.value('te_request_failure', { err: 'validation' })).toBe(1)
    expect(after.value('te_request_count', { method: 'single' })).toBe(3)
    expect(after.value('te_request_success', { method: 'single' })).toBe(1)
  })
})
