import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { describe, expect, it } from 'vitest'
import { EmbedError } from '../../src/errors.ts'
import { requestDone, tokenizeDone } from '../../src/telemetry/channels.ts'
import { type CollectedSpan, startTraceCollector } from '../fakes/trace-collector.ts'
import { type TinyServer, startTinyServer } from '../fixtures/start-tiny-server.ts'

const traceId = '0af7651916cd43dd8448eb211c80319c'
const parentSpanId = 'b7ad6b7169203331'
const traceparent = (flags: string): string => `00-${traceId}-${parentSpanId}-${flags}`

const post = (tiny: TinyServer, payload: object, headers: Record<string, string> = {}, url = '/embed') =>
  tiny.server.app.inject({ method: 'POST', url, payload, headers })

describe('without otlpEndpoint', () => {
  // First in this file: another test loads the SDK.
  it('nothing of the SDK is loaded and no header is added', async () => {
    await using tiny = await startTinyServer()
    const answer = await post(tiny, { inputs: 'the cat' }, { traceparent: traceparent('01') })
    expect(answer.statusCode).toBe(200)
    expect(answer.headers['traceparent']).toBeUndefined()
    const loaded = Object.keys(createRequire(import.meta.url).cache)
    expect(loaded.some((path) => path.includes('prom-client'))).toBe(true)
    expect(loaded.filter((path) => /@opentelemetry\/(?!api\/)/.test(path))).toEqual([])
  })
})

describe('with otlpEndpoint', () => {
  it('sends a span a request, with tokenisation, queue and inference below it', async () => {
    await using collector = await startTraceCollector()
    const beforeNs = BigInt(Date.now()) * 1_000_000n
    {
      await using tiny = await startTinyServer({ otlpEndpoint: collector.url, otlpServiceName: 'embedder' })
      const answer = await post(tiny, { inputs: ['the cat', 'a dog'] }, { traceparent: traceparent('01') })
      expect(answer.statusCode).toBe(200)
      await tiny.server.app.inject('/readyz')
      await tiny.server.app.inject('/metrics')
      const { spans } = await close(tiny, collector)
      expect(spans.map((span) => span.name).toSorted()).toEqual([
        'POST /embed',
        'inference',
        'queue',
        'tokenize',
      ])
      const server = find(spans, 'POST /embed')
      expect(server).toMatchObject({
        traceId,
        parentSpanId,
        kind: 'SPAN_KIND_SERVER',
        status: 'STATUS_CODE_UNSET',
        attributes: {
          'http.request.method': 'POST',
          'http.route': '/embed',
          'http.response.status_code': 200,
          'embed.inputs': 2,
          'embed.tokens': 8,
          'embed.batches': 1,
        },
        resource: { 'service.name': 'embedder', 'service.version': '0.1.0' },
      })
      expect(answer.headers['traceparent']).toBe(`00-${traceId}-${server.spanId}-01`)
      const [tokenize, queue, inference] = ['tokenize', 'queue', 'inference'].map((name) => find(spans, name))
      for (const stage of [tokenize!, queue!, inference!]) {
        expect(stage).toMatchObject({ traceId, parentSpanId: server.spanId, kind: 'SPAN_KIND_INTERNAL' })
        // The clocks of a span's begin and of its stages differ by less than a millisecond's rounding.
        expect(stage.startNs).toBeGreaterThan(server.startNs - 2_000_000n)
        expect(stage.endNs).toBeLessThan(server.endNs + 2_000_000n)
      }
      expect(queue!.startNs - tokenize!.endNs).toBeLessThan(1_000_000n)
      expect(inference!.startNs).toBeGreaterThanOrEqual(queue!.endNs - 1_000_000n)
      expect(inference!.endNs).toBeGreaterThan(inference!.startNs)
      expect(tokenize!.attributes).toEqual({ 'embed.inputs': 2, 'embed.tokens': 8 })
      expect(inference!.attributes).toEqual({ 'embed.batch_size': 2, 'embed.batch_tokens': 8 })
      expect(server.startNs).toBeGreaterThan(beforeNs - 2_000_000n)
    }
    expect(collector.requests.every((request) => request.path === '/v1/traces')).toBe(true)
    expect([requestDone.hasSubscribers, tokenizeDone.hasSubscribers]).toEqual([false, false])
  })

  it('draws at most 32 batches of a list', async () => {
    await using collector = await startTraceCollector()
    await using tiny = await startTinyServer({ otlpEndpoint: collector.url, maxBatchSize: 1 })
    await post(tiny, { inputs: Array.from({ length: 40 }, () => 'a') })
    const { spans } = await close(tiny, collector)
    expect(find(spans, 'POST /embed').attributes['embed.batches']).toBe(40)
    expect(spans.filter((span) => span.name === 'inference')).toHaveLength(32)
  })

  it('begins a trace of its own where the caller has none, or a broken one', async () => {
    await using collector = await startTraceCollector()
    await using tiny = await startTinyServer({ otlpEndpoint: `${collector.url}/v1/traces` })
    for (const headers of [{}, { traceparent: 'nonsense' }] as Record<string, string>[]) {
      const answer = await post(tiny, { input: 'a' }, headers, '/v1/embeddings')
      expect(answer.headers['traceparent']).toMatch(/^00-[\da-f]{32}-[\da-f]{16}-01$/)
    }
    const { spans } = await close(tiny, collector)
    const roots = spans.filter((span) => span.parentSpanId === '')
    expect(roots.map((span) => span.name)).toEqual(['POST /v1/embeddings', 'POST /v1/embeddings'])
    expect(new Set(roots.map((span) => span.traceId)).size).toBe(2)
  })

  it('follows the caller who samples or does not, else its own ratio', async () => {
    await using collector = await startTraceCollector()
    await using tiny = await startTinyServer({ otlpEndpoint: collector.url, traceSampleRatio: 0 })
    const unsampled = await post(tiny, { inputs: 'a' }, { traceparent: traceparent('00') })
    expect(unsampled.headers['traceparent']).toMatch(new RegExp(`^00-${traceId}-[\\da-f]{16}-00$`))
    expect((await post(tiny, { inputs: 'a' })).headers['traceparent']).toMatch(/-00$/)
    await post(tiny, { inputs: 'a' }, { traceparent: traceparent('01') })
    const { spans } = await close(tiny, collector)
    expect(spans).toHaveLength(4)
    expect(new Set(spans.map((span) => span.traceId))).toEqual(new Set([traceId]))
  })

  it('records errors by code', async () => {
    await using collector = await startTraceCollector()
    await using tiny = await startTinyServer({ otlpEndpoint: collector.url, maxQueuedTokens: 33 })
    await post(tiny, { inputs: '' })
    // One token too many, which shows only when it is tokenised.
    await post(tiny, { inputs: 'a '.repeat(32) })
    tiny.pipeline.embed = () => Promise.reject(new EmbedError('REQUEST_TIMEOUT', { timeoutMs: 1 }))
    await post(tiny, { inputs: 'b' })
    tiny.pipeline.embed = () => Promise.reject(new EmbedError('ENGINE_FAILED', { engine: 'e', reason: 'r' }))
    expect((await post(tiny, { inputs: 'c' })).statusCode).toBe(424)
    await post(tiny, { inputs: 'd' }, {}, '/nope')
    const { spans } = await close(tiny, collector)
    const servers = spans.filter((span) => span.kind === 'SPAN_KIND_SERVER')
    expect(servers.map((span) => [span.name, span.attributes['error.type'], span.status])).toEqual([
      ['POST /embed', 'EMPTY_INPUT', 'STATUS_CODE_UNSET'],
      ['POST /embed', 'REQUEST_TOO_LARGE', 'STATUS_CODE_UNSET'],
      ['POST /embed', 'REQUEST_TIMEOUT', 'STATUS_CODE_ERROR'],
      // TEI's 424 is an error of the server all the same.
      ['POST /embed', 'ENGINE_FAILED', 'STATUS_CODE_ERROR'],
      ['POST', 'ROUTE_NOT_FOUND', 'STATUS_CODE_UNSET'],
    ])
    // A request that failed on its way shows how far it came.
    const stages = spans.filter((span) => span.kind !== 'SPAN_KIND_SERVER')
    expect(stages.map((span) => [span.name, span.attributes['error.type']])).toEqual([
      ['tokenize', undefined],
      ['queue', 'REQUEST_TOO_LARGE'],
    ])
  })

  it('puts the trace id into the log lines of the request', async () => {
    const lines: string[] = []
    await using collector = await startTraceCollector()
    await using tiny = await startTinyServer(
      { otlpEndpoint: collector.url, logLevel: 'warn', accessLog: true },
      { logStream: { write: (line) => void lines.push(line) } },
    )
    await post(tiny, { inputs: 'a' }, { traceparent: traceparent('01'), 'x-request-id': 'r1' })
    tiny.pipeline.embed = () => Promise.reject(new EmbedError('ENGINE_FAILED', { engine: 'e', reason: 'r' }))
    await post(tiny, { inputs: 'a' }, { traceparent: traceparent('00'), 'x-request-id': 'r2' })
    const logged = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(logged.map((line) => [line['traceId'], line['requestId'], line['msg']])).toEqual([
      [traceId, 'r1', 'request'],
      [traceId, 'r2', expect.stringContaining('failed')],
      [traceId, 'r2', 'request'],
    ])
  })
})

describe('a collector that is not there', () => {
  it('costs one warning, no request, and a bounded stop', async () => {
    const lines: string[] = []
    const port = await findFreePort()
    const tiny = await startTinyServer(
      { otlpEndpoint: `http://127.0.0.1:${port}`, logLevel: 'warn' },
      { logStream: { write: (line) => void lines.push(line) } },
    )
    // More than one export of 512 spans.
    const answers = await Promise.all(Array.from({ length: 300 }, () => post(tiny, { inputs: 'a' })))
    expect(answers.every((answer) => answer.statusCode === 200)).toBe(true)
    const startMs = performance.now()
    await tiny[Symbol.asyncDispose]()
    expect(performance.now() - startMs).toBeLessThan(4000)
    await expect.poll(() => lines.length, { timeout: 10_000 }).toBe(1)
    expect(JSON.parse(lines[0]!)).toMatchObject({
      level: 40,
      url: `http://127.0.0.1:${port}/v1/traces`,
      msg: expect.stringContaining('ECONNREFUSED') as string,
    })
  })

  it('and one that never answers does not hold up the stop', async () => {
    const mute = createServer()
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve))
    const sockets: { destroy(): void }[] = []
    mute.on('connection', (socket) => sockets.push(socket))
    const { port } = mute.address() as AddressInfo
    const tiny = await startTinyServer({ otlpEndpoint: `http://127.0.0.1:${port}` })
    await post(tiny, { inputs: 'a' })
    const startMs = performance.now()
    await tiny[Symbol.asyncDispose]()
    const elapsedMs = performance.now() - startMs
    expect(elapsedMs).toBeGreaterThan(1500)
    expect(elapsedMs).toBeLessThan(4000)
    for (const socket of sockets) socket.destroy()
    mute.close()
  })

  it.each(['nonsense', 'grpc://host:4317'])('is refused at the start when it is %s', async (otlpEndpoint) => {
    await expect(startTinyServer({ otlpEndpoint })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(otlpEndpoint) as string,
    })
  })
})

/** Flushes what the server still has. */
async function close<Collector>(tiny: TinyServer, collector: Collector): Promise<Collector> {
  await tiny.server.close()
  return collector
}

function find(spans: readonly CollectedSpan[], name: string): CollectedSpan {
  const found = spans.filter((span) => span.name === name)
  expect(found, name).toHaveLength(1)
  return found[0]!
}

async function findFreePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
