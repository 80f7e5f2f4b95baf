import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { EmbedError } from '../../src/errors.ts'
import { engineState } from '../../src/telemetry/channels.ts'
import { type TinyServer, startTinyServer } from '../fixtures/start-tiny-server.ts'

type LogLine = Record<string, unknown> & { requestId?: string; level: number; msg: string }

const secret = 'the-cat-ate-my-password'
let written: string[]
let tiny: TinyServer

const logStream = { write: (line: string) => void written.push(line) }
const readLog = (): LogLine[] => written.map((line) => JSON.parse(line) as LogLine)
const post = (payload: unknown, headers: Record<string, string> = {}, url = '/embed') =>
  tiny.server.app.inject({
    method: 'POST',
    url,
    payload: JSON.stringify(payload),
    headers: { 'content-type': 'application/json', ...headers },
  })

beforeEach(() => {
  written = []
})
afterEach(() => tiny[Symbol.asyncDispose]())

describe('x-request-id', () => {
  beforeEach(async () => {
    tiny = await startTinyServer()
  })

  it("is the client's own when that is sane", async () => {
    for (const id of ['order-4711', '01J9ZQ/a:b.c_d+e=@', 'x'.repeat(128)])
      expect((await post({ inputs: 'a' }, { 'x-request-id': id })).headers['x-request-id']).toBe(id)
  })

  it('is a new one otherwise', async () => {
    const ids = new Set<unknown>()
    for (const id of [undefined, '', 'x'.repeat(129), 'a b', 'a"b', 'käse', '{"a":1}']) {
      const answer = await post({ inputs: 'a' }, id === undefined ? {} : { 'x-request-id': id })
      expect(answer.headers['x-request-id']).toMatch(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/)
      ids.add(answer.headers['x-request-id'])
    }
    expect(ids.size).toBe(7)
  })

  it("is in the body of Cohere's errors too, which have a field for it", async () => {
    const answer = await post({}, { 'x-request-id': 'mine' }, '/v2/embed')
    expect([answer.statusCode, answer.json()]).toEqual([400, expect.objectContaining({ id: 'mine' })])
  })

  it('is on every answer: refusals, unknown routes, probes', async () => {
    const headers = { 'x-request-id': 'mine' }
    const answers = [
      await post({ inputs: '' }, headers),
      await post({ inputs: 5 }, headers),
      await post({ inputs: 'a' }, headers, '/nope'),
      await tiny.server.app.inject({ url: '/%zz', headers }),
      await tiny.server.app.inject({ url: '/readyz', headers }),
      await tiny.server.app.inject({ url: '/metrics', headers }),
    ]
    expect(answers.map((answer) => [answer.statusCode, answer.headers['x-request-id']])).toEqual(
      [400, 422, 404, 400, 200, 200].map((status) => [status, 'mine']),
    )
  })
})

describe('log', () => {
  it('has a line with code and id for each failure of ours, and none for those of the client', async () => {
    tiny = await startTinyServer({ logLevel: 'warn' }, { logStream })
    await post({ inputs: '' })
    expect(readLog()).toEqual([])
    failNextRequest(new EmbedError('ENGINE_FAILED', { engine: 'onnx', reason: 'out of memory' }))
    const answer = await post({ inputs: 'a' }, { 'x-request-id': 'abc' })
    expect(answer.statusCode).toBe(424)
    expect(readLog()).toEqual([
      expect.objectContaining({ level: 50, requestId: 'abc', code: 'ENGINE_FAILED', status: 500 }),
    ])
    failNextRequest(new EmbedError('REQUEST_TIMEOUT', { timeoutMs: 5 }))
    expect((await post({ inputs: 'a' }, { 'x-request-id': 'late' })).statusCode).toBe(504)
    expect(readLog()[1]).toMatchObject({ level: 40, requestId: 'late', code: 'REQUEST_TIMEOUT', status: 504 })
    failNextRequest(new TypeError('oops'))
    expect((await post({ inputs: 'a' })).statusCode).toBe(500)
    const stack = expect.stringContaining('caused by: TypeError: oops') as string
    expect(readLog()[2]).toMatchObject({ level: 50, code: 'INTERNAL', err: { stack } })
    expect(readLog()).toHaveLength(3)
  })

  it('has one line a request with accessLog, whatever logLevel is', async () => {
    tiny = await startTinyServer({ logLevel: 'error', accessLog: true }, { logStream })
    await post({ inputs: 'a' }, { 'x-request-id': 'one' })
    await post({ inputs: '' }, { 'x-request-id': 'two' })
    await tiny.server.app.inject(`/nope/${secret}?key=${secret}`)
    const lines = readLog()
    expect(lines).toEqual([
      expect.objectContaining({
        level: 30,
        requestId: 'one',
        method: 'POST',
        route: '/embed',
        status: 200,
        outcome: 'ok',
        durationMs: expect.any(Number) as number,
      }),
      expect.objectContaining({ requestId: 'two', status: 400, outcome: 'EMPTY_INPUT' }),
      expect.objectContaining({ method: 'GET', route: 'unmatched', status: 404 }),
    ])
    expect(written.join('')).not.toContain(secret)
  })

  it('never holds what a user sent', async () => {
    tiny = await startTinyServer({ logLevel: 'debug', accessLog: true }, { logStream })
    await post({ inputs: secret })
    await post({ inputs: secret.repeat(100), truncate: false })
    await post({ inputs: 'a', prompt_name: secret })
    await post({ inputs: [secret, 5] })
    await post({ input: secret, model: secret, user: secret, encoding_format: secret }, {}, '/v1/embeddings')
    await tiny.server.app.inject({
      method: 'POST',
      url: '/embed',
      payload: `{"inputs": "${secret}`,
      headers: { 'content-type': 'application/json' },
    })
    await post({ inputs: 'a' }, { authorization: `Bearer ${secret}`, 'x-request-id': `"${secret}"` })
    await tiny.server.app.inject(`/v1/models/${secret}?q=${secret}`)
    failNextRequest(new EmbedError('ENGINE_FAILED', { engine: 'onnx', reason: 'out of memory' }))
    await post({ inputs: secret })
    expect(readLog().length).toBeGreaterThanOrEqual(9)
    expect(written.join('')).not.toContain(secret)
  })

  it('tells when the engine dies and when it was replaced', async () => {
    tiny = await startTinyServer({ logLevel: 'warn' }, { logStream })
    const state = { source: tiny.pipeline.engine, engine: 'onnx', reason: 'device lost' }
    engineState.publish({ ...state, isHealthy: false })
    engineState.publish({ ...state, isHealthy: true })
    engineState.publish({ ...state, source: {}, isHealthy: false })
    expect(readLog()).toEqual([
      expect.objectContaining({ level: 50, engine: 'onnx', reason: 'device lost' }),
      expect.objectContaining({ level: 40, engine: 'onnx', msg: 'the engine was replaced' }),
    ])
  })

  it('is silent when asked to be', async () => {
    tiny = await startTinyServer({ logLevel: 'silent', accessLog: true }, { logStream })
    await post({ inputs: 'a' })
    expect(written).toEqual([])
  })
})

/** What the pipeline throws once, whatever stage it came from. */
function failNextRequest(error: Error): void {
  const { pipeline } = tiny
  const embed = pipeline.embed.bind(pipeline)
  pipeline.embed = () => {
    pipeline.embed = embed
    return Promise.reject(error)
  }
}
