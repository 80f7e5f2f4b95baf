/** A full queue answers before a body is read, over HTTP even before Fastify; nobody may see a difference. */
import { describe, expect, it } from 'vitest'
import type { ConfigValues } from '../../src/config/load.ts'
import { startTraceCollector } from '../fakes/trace-collector.ts'
import { sendRaw } from '../fakes/raw-http.ts'
import { type ArithmeticServer, startArithmeticServer } from '../fixtures/start-arithmetic-server.ts'

const paths =
  '/embed / /invocations /embed_all /similarity /vertex /v1/embeddings /embeddings /v2/embed /v1/embed /api/embed /api/embeddings'.split(
    ' ',
  )
const json = { 'content-type': 'application/json' }

/** A server whose only place is taken until `free` is called. */
async function startFullServer(
  config: ConfigValues = {},
  logStream?: { write(line: string): void },
): Promise<ArithmeticServer & { readonly free: () => Promise<void> }> {
  const running = await startArithmeticServer(
    { maxQueuedRequests: 1, ...config },
    { durationMs: 60_000, ...(logStream && { logStream }) },
  )
  const left = new AbortController()
  const holding = running.host.current.pipeline
    .embed({ inputs: ['a'], truncation: 'right', signal: left.signal })
    .catch(() => undefined)
  await expect.poll(() => running.engine.running).toBe(1)
  const free = async (): Promise<void> => {
    left.abort()
    await holding
  }
  return {
    ...running,
    free,
    async [Symbol.asyncDispose]() {
      await free()
      await running.server.close()
    },
  }
}

const post = (
  { url }: ArithmeticServer,
  path: string,
  headers: Record<string, string> = {},
): Promise<Response> =>
  fetch(`${url}${path}`, { method: 'POST', body: 'not JSON', headers: { ...json, ...headers } })

/** Those of the answer, not of the connection. */
const namesOf = (headers: Iterable<string>): string[] =>
  [...headers].filter((name) => !['date', 'connection', 'keep-alive'].includes(name)).toSorted()

describe('a full queue', () => {
  it('refuses unread what embeds, as Fastify would, and nothing else', async () => {
    await using full = await startFullServer()
    const request = { method: 'POST', payload: 'not JSON' } as const
    for (const path of paths) {
      const headers = { ...json, 'x-request-id': 'mine' }
      // inject() enters behind the listener.
      const inside = await full.server.app.inject({ ...request, url: path, headers })
      const answer = await post(full, `${path}?a=b`, headers)
      expect([answer.status, await answer.json()], path).toEqual([429, inside.json()])
      expect([inside.statusCode, Number(answer.headers.get('retry-after'))], path).toEqual([429, 1])
      expect(namesOf(answer.headers.keys()), path).toEqual(namesOf(Object.keys(inside.headers)))
      for (const name of ['content-type', 'x-request-id', 'retry-after', 'content-length'])
        expect(answer.headers.get(name), path).toBe(inside.headers[name])
    }
    expect((await post(full, '/embed')).headers.get('x-request-id')).toMatch(/^[\da-f-]{36}$/)
    expect((await post(full, '/embed', { 'x-priority': 'high' })).status).toBe(400)
    expect((await post(full, '/tokenize')).status).toBe(400)
    expect((await fetch(`${full.url}/readyz`)).status).toBe(200)
    expect((await fetch(`${full.url}/embed`)).status).toBe(405)
    await full.free()
    expect((await post(full, '/embed')).status).toBe(400)
  })

  it('keeps the connection: the body that nobody read is not taken for the next request', async () => {
    await using full = await startFullServer()
    const ask = 'POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
    const refused = `${ask}content-length: 30\r\n\r\n{"inputs": "GET / HTTP/1.1 x"}`
    const pipelined = `${ask}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`
    const last = 'GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'
    const { text, isClosed } = await sendRaw(full.port, [
      refused.slice(0, -5),
      refused.slice(-5),
      pipelined + last,
    ])
    const statuses = [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)
    expect([statuses, isClosed]).toEqual([['429', '429', '200'], true])
  })

  it('says 401 before 429', async () => {
    await using full = await startFullServer({ apiKey: 'secret' })
    const answers = [
      await post(full, '/embed'),
      await post(full, '/embed', { authorization: 'Bearer wrong' }),
      await post(full, '/embed', { 'x-api-key': 'secret' }),
    ]
    expect(answers.map(({ status }) => status)).toEqual([401, 401, 429])
    expect(answers[1]!.headers.get('www-authenticate')).toContain('invalid_token')
  })

  it('is counted and logged like any other answer', async () => {
    const logged: string[] = []
    const write = (line: string): void => void logged.push(line)
    await using full = await startFullServer({ accessLog: true, logLevel: 'error' }, { write })
    await post(full, '/embed', { 'x-request-id': 'one' })
    await post(full, '/v1/embeddings', { 'x-request-id': 'two' })
    const metrics = await (await fetch(`${full.url}/metrics`)).text()
    const labels = 'route="/embed",status="429",outcome="QUEUE_FULL"'
    expect(metrics).toContain(`embed_requests_total{${labels}} 1\n`)
    expect(metrics).toContain('embed_rejections_total{code="QUEUE_FULL"} 2\n')
    expect(metrics).toContain('embed_request_duration_seconds_count{route="/v1/embeddings"} 1\n')
    const lines = logged.map((line) => JSON.parse(line) as object)
    const line = { level: 30, method: 'POST', status: 429, outcome: 'QUEUE_FULL' }
    expect(lines.slice(0, 2)).toEqual([
      expect.objectContaining({ ...line, requestId: 'one', route: '/embed' }),
      expect.objectContaining({ ...line, requestId: 'two', route: '/v1/embeddings' }),
    ])
  })

  it('lets a browser read the refusal where CORS lets it', async () => {
    await using full = await startFullServer({ corsOrigins: 'https://a.example' })
    const answer = await post(full, '/embed', { origin: 'https://a.example' })
    const allowed = answer.headers.get('access-control-allow-origin')
    expect([answer.status, allowed]).toEqual([429, 'https://a.example'])
  })

  it('is in the traces', async () => {
    await using collector = await startTraceCollector()
    await using full = await startFullServer({ otlpEndpoint: collector.url })
    const traceId = '0af7651916cd43dd8448eb211c80319c'
    const answer = await post(full, '/embed', { traceparent: `00-${traceId}-b7ad6b7169203331-01` })
    expect([answer.status, answer.headers.get('traceparent')?.slice(3, 35)]).toEqual([429, traceId])
  })

  it('ends the connection while the server stops', async () => {
    const full = await startFullServer({ shutdownDelayMs: 200, drainTimeoutMs: 0 })
    const closing = full.server.close()
    const answer = await post(full, '/embed')
    expect([answer.status, answer.headers.get('connection')]).toEqual([429, 'close'])
    await closing
    await full[Symbol.asyncDispose]()
  })
})
