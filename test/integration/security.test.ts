/** Who may ask, how much, and what a hostile client gets. */
import { lookup } from 'node:dns/promises'
import { copyFile, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { type Socket, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PipelineHost } from '../../src/serving/pipeline/pipeline-host.ts'
import type { ConfigValues } from '../../src/config/load.ts'
import { createServer } from '../../src/serving/server/create-server.ts'
import { createTokenizer } from '../../src/serving/tokenizer/worker-tokenizer.ts'
import { createArithmeticPipeline } from '../fakes/arithmetic-pipeline.ts'
import { sendRaw } from '../fakes/raw-http.ts'
import { type ArithmeticServer, startArithmeticServer } from '../fixtures/start-arithmetic-server.ts'

let folder: string
beforeAll(async () => (folder = await mkdtemp(join(tmpdir(), 'akidb-security-'))))
afterAll(() => rm(folder, { recursive: true }))

const start = startArithmeticServer
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))
const json = { 'content-type': 'application/json' }
const embed = (url: string, headers: Record<string, string> = {}, body: unknown = { inputs: 'a' }) =>
  fetch(`${url}/embed`, { method: 'POST', headers: { ...json, ...headers }, body: JSON.stringify(body) })

describe('API keys', () => {
  let running: ArithmeticServer
  let keysFile: string
  beforeAll(async () => {
    keysFile = join(folder, 'keys')
    await writeFile(keysFile, '# two\nfile-key-1\nfile-key-2\n')
    running = await start({ apiKey: 'own-key', apiKeysFile: keysFile })
  })
  afterAll(() => running[Symbol.asyncDispose]())

  it.each([
    { authorization: 'Bearer own-key' },
    { authorization: 'bearer  file-key-1' },
    { 'x-api-key': 'file-key-2' },
    { authorization: 'Basic dXNlcjpwdw==', 'x-api-key': 'own-key' },
    { authorization: 'Bearer wrong', 'x-api-key': 'own-key' },
  ])('takes %j', async (headers) => {
    expect((await embed(running.url, headers)).status).toBe(200)
  })

  it.each([
    [{}, 'Bearer realm="akidb-embedding"', 'an API key is needed'],
    [{ authorization: 'own-key' }, 'Bearer realm="akidb-embedding"', 'an API key is needed'],
    [
      { authorization: 'Bearer nope' },
      'Bearer realm="akidb-embedding", error="invalid_token"',
      'is not known here',
    ],
    [{ 'x-api-key': 'own-ke' }, 'Bearer realm="akidb-embedding", error="invalid_token"', 'is not known here'],
  ])('refuses %j in the shape of each dialect', async (headers, challenge, message) => {
    const tei = await embed(running.url, headers)
    expect([tei.status, tei.headers.get('www-authenticate')]).toEqual([401, challenge])
    expect(await tei.json()).toMatchObject({
      error: expect.stringContaining(message) as string,
      code: 'INVALID_API_KEY',
    })
    const openai = await fetch(`${running.url}/v1/embeddings`, {
      method: 'POST',
      headers: { ...json, ...(headers as Record<string, string>) },
      body: '{"input":"a"}',
    })
    expect([openai.status, await openai.json()]).toMatchObject([
      401,
      { error: { code: 'invalid_api_key', type: 'invalid_request_error', param: null } },
    ])
  })

  it('leaves health open and everything else that exists closed', async () => {
    const statusOf = async (path: string, method = 'GET') =>
      (await fetch(running.url + path, { method })).status
    for (const path of ['/livez', '/readyz', '/health', '/ping', '/']) {
      expect([path, await statusOf(path), await statusOf(path, 'HEAD')]).toEqual([path, 200, 200])
    }
    const closed = [
      '/info',
      '/v1/models',
      '/metrics',
      '/stats',
      '/docs',
      '/docs/json',
      '/docs/static/index.html',
    ]
    for (const path of closed) {
      expect([path, await statusOf(path), await statusOf(path, 'HEAD')]).toEqual([path, 401, 401])
    }
    expect([await statusOf('/nope'), await statusOf('/embed')]).toEqual([404, 405])
  })

  it('answers without reading the body', async () => {
    const head =
      'POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n'
    const { text } = await sendRaw(running.port, [head, '{"inputs": "'], { waitMs: 300 })
    expect(text).toMatch(/^HTTP\/1\.1 401 /)
  })

  it('takes over a replaced file while it runs', async () => {
    await writeFile(`${keysFile}.new`, 'file-key-3\n')
    await rename(`${keysFile}.new`, keysFile)
    await expect.poll(async () => (await embed(running.url, { 'x-api-key': 'file-key-3' })).status).toBe(200)
    expect((await embed(running.url, { 'x-api-key': 'file-key-1' })).status).toBe(401)
    expect((await embed(running.url, { 'x-api-key': 'own-key' })).status).toBe(200)
  })

  it('stay out of the log, known or not', async () => {
    const lines: string[] = []
    const config = { apiKey: 'known-key', logLevel: 'debug', accessLog: true }
    const host = new PipelineHost(createArithmeticPipeline({ config }))
    await using server = await createServer({ host, logStream: { write: (line) => void lines.push(line) } })
    const url = await server.listen()
    for (const key of ['known-key', 'unknown-key']) {
      await embed(url, { authorization: `Bearer ${key}` })
      await embed(url, { 'x-api-key': key })
    }
    await expect.poll(() => lines.join('').match(/"outcome":"INVALID_API_KEY"/g)?.length).toBe(2)
    expect(lines.join('')).not.toMatch(/known-key/)
    await host[Symbol.asyncDispose]()
  })

  it('are missed in the log where others can reach the server, and only there', async () => {
    expect(await warnings({ host: '0.0.0.0' })).toMatch(/anyone who reaches 0\.0\.0\.0 may use this server/)
    expect(await warnings({ host: '0.0.0.0', apiKey: 'k' })).toBe('')
    for (const host of ['127.0.0.1', 'localhost']) expect(await warnings({ host })).toBe('')
  })

  it('does not start without the file that is named', async () => {
    const host = new PipelineHost(createArithmeticPipeline({ config: { apiKeysFile: join(folder, 'none') } }))
    await expect(createServer({ host })).rejects.toMatchObject({ code: 'FILE_UNREADABLE' })
    await host[Symbol.asyncDispose]()
  })
})

describe('access policies', () => {
  it('opens or removes /docs and /metrics as they say', async () => {
    await using open = await start({ apiKey: 'k', docsAccess: 'open', metricsAccess: 'open' })
    for (const path of ['/docs', '/docs/json', '/metrics', '/stats']) {
      expect((await fetch(open.url + path)).status, path).toBe(200)
    }
    expect((await fetch(`${open.url}/info`)).status).toBe(401)
    await using off = await start({ docsAccess: 'off', metricsAccess: 'off' })
    for (const path of ['/docs', '/docs/json', '/docs/static/index.html', '/metrics', '/stats']) {
      expect((await fetch(off.url + path)).status, path).toBe(404)
    }
  })

  it('closes a route that says nothing of access', async () => {
    const host = new PipelineHost(createArithmeticPipeline({ config: { apiKey: 'k' } }))
    await using server = await createServer({ host })
    // Every route that is registered, whoever registered it: open are the health routes only.
    const document = await server.app.inject({ url: '/docs/json', headers: { 'x-api-key': 'k' } })
    const { paths } = document.json<{ paths: Record<string, Record<string, unknown>> }>()
    const open: string[] = []
    for (const [path, methods] of Object.entries(paths)) {
      for (const method of Object.keys(methods)) {
        const url = path.replaceAll(/\{[^}]+\}/g, 'x')
        const { statusCode } = await server.app.inject({ method: method as 'GET', url })
        if (statusCode !== 401) open.push(`${method} ${path}`)
      }
    }
    expect(open.toSorted()).toEqual(['get /', 'get /health', 'get /livez', 'get /ping', 'get /readyz'])
    await host[Symbol.asyncDispose]()
  })
})

describe('CORS', () => {
  const origin = 'https://app.example'
  const preflight = (url: string) =>
    fetch(`${url}/v1/embeddings`, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      },
    })

  it('is off by default', async () => {
    await using running = await start()
    expect((await embed(running.url, { origin })).headers.get('access-control-allow-origin')).toBeNull()
    const asked = await preflight(running.url)
    expect([asked.status, asked.headers.get('access-control-allow-origin')]).toEqual([405, null])
  })

  it('lets the named origins in, and asks them for no key beforehand', async () => {
    await using running = await start({
      apiKey: 'k',
      corsOrigins: 'https://other.example, https://app.example',
    })
    const asked = await preflight(running.url)
    expect([asked.status, asked.headers.get('access-control-allow-origin')]).toEqual([204, origin])
    expect(asked.headers.get('access-control-allow-headers')).toContain('authorization')
    const refused = await embed(running.url, { origin })
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, origin])
    const stranger = await embed(running.url, { origin: 'https://evil.example', 'x-api-key': 'k' })
    expect(stranger.headers.get('access-control-allow-origin')).toBeNull()
  })

  it('lets all in with *', async () => {
    await using running = await start({ corsOrigins: '*' })
    expect((await embed(running.url, { origin })).headers.get('access-control-allow-origin')).toBe('*')
  })
})

describe('limits', () => {
  it('refuses a text over maxTextChars and names it, token lists beside it or not', async () => {
    const tokenizerPath = fixture('tiny-tokenizer.json')
    const tokenizer = await createTokenizer({ tokenizerPath, workerCount: 0, maxTextChars: 10 })
    await using running = await start({}, { tokenizer })
    const answer = await embed(running.url, {}, { inputs: [[1, 2], 'hello', 'hello hello'] })
    expect([answer.status, await answer.json()]).toMatchObject([
      422,
      { code: 'TEXT_TOO_LARGE', error: expect.stringContaining('input 2 has 11 characters, at most 10') },
    ])
  })

  it('closes a connection over maxConnections and takes one again when another has gone', async () => {
    await using running = await start({ maxConnections: 2 })
    const open = await Promise.all([openConnection(running.port), openConnection(running.port)])
    const refused = await sendRaw(running.port, ['GET /livez HTTP/1.1\r\nhost: x\r\n\r\n'], { waitMs: 2000 })
    expect(refused).toEqual({ text: '', isClosed: true })
    open[0].destroy()
    await expect
      .poll(() =>
        fetch(`${running.url}/livez`).then(
          (answer) => answer.status,
          () => 0,
        ),
      )
      .toBe(200)
    open[1].destroy()
  })

  it('ends requests whose headers or bodies dribble in, and idle connections', async () => {
    await using running = await start({
      headersTimeoutMs: 200,
      receiveTimeoutMs: 600,
      keepAliveTimeoutMs: 300,
    })
    const slowHeaders = await sendRaw(running.port, ['GET /livez HTTP/1.1\r\n', ...dribble('x-a: b\r\n')], {
      pauseMs: 50,
    })
    expect([slowHeaders.isClosed, slowHeaders.text]).toEqual([
      true,
      expect.stringMatching(/^HTTP\/1\.1 408 /),
    ])
    const head =
      'POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n'
    const slowBody = await sendRaw(running.port, [head, ...dribble(' ')], { pauseMs: 50 })
    expect([slowBody.isClosed, slowBody.text]).toEqual([true, expect.stringMatching(/^HTTP\/1\.1 408 /)])
    const idle = await sendRaw(running.port, ['GET /livez HTTP/1.1\r\nhost: x\r\n\r\n'])
    expect([idle.isClosed, idle.text]).toEqual([true, expect.stringMatching(/^HTTP\/1\.1 200 /)])
  })
})

describe('request smuggling', () => {
  const head = 'POST /embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n'
  const hidden = 'GET /livez HTTP/1.1\r\nhost: x\r\n\r\n'
  let running: ArithmeticServer
  beforeAll(async () => (running = await start()))
  afterAll(() => running[Symbol.asyncDispose]())

  it.each([
    [
      'Content-Length and Transfer-Encoding',
      `${head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`,
    ],
    [
      'Transfer-Encoding and Content-Length',
      `${head}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n${hidden}`,
    ],
    ['two Content-Lengths', `${head}content-length: 14\r\ncontent-length: 0\r\n\r\n{"inputs":"a"}${hidden}`],
    ['a list of Content-Lengths', `${head}content-length: 14, 14\r\n\r\n{"inputs":"a"}${hidden}`],
    ['a signed Content-Length', `${head}content-length: +14\r\n\r\n{"inputs":"a"}${hidden}`],
    [
      'a bad chunk size',
      `${head}transfer-encoding: chunked\r\n\r\nzz\r\n{"inputs":"a"}\r\n0\r\n\r\n${hidden}`,
    ],
    [
      'a chunk longer than it says',
      `${head}transfer-encoding: chunked\r\n\r\n2\r\n{"inputs":"a"}\r\n0\r\n\r\n${hidden}`,
    ],
    ['an encoding after chunked', `${head}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n${hidden}`],
    ['a space before the colon', `${head}content-length : 14\r\n\r\n{"inputs":"a"}${hidden}`],
    ['a folded header', `${head}x-a: b\r\n content-length: 14\r\n\r\n{"inputs":"a"}${hidden}`],
    ['a line end in a header', `${head}x-a: b\rcontent-length: 14\r\n\r\n${hidden}`],
    ['no host', `GET /livez HTTP/1.1\r\n\r\n${hidden}`],
  ])('by %s gets 400 and the connection closed', async (_name, bytes) => {
    const { text, isClosed } = await sendRaw(running.port, [bytes])
    expect(text).toMatch(/^HTTP\/1\.1 400 /)
    expect([isClosed, text.match(/HTTP\/1\.1/g)!.length]).toEqual([true, 1])
    expect((await embed(running.url)).status).toBe(200)
  })

  it('does not get headers without end either', async () => {
    const { text, isClosed } = await sendRaw(running.port, [
      `GET /livez HTTP/1.1\r\nhost: x\r\nx-a: ${'a'.repeat(20_000)}\r\n\r\n`,
    ])
    expect([isClosed, text]).toEqual([true, expect.stringMatching(/^HTTP\/1\.1 431 /)])
  })
})

describe('hostile JSON', () => {
  it.each([
    '{"inputs":"a","__proto__":{"polluted":true}}',
    '{"inputs":"a","constructor":{"prototype":{"polluted":true}}}',
  ])('with %s is refused and pollutes nothing', async (body) => {
    await using running = await start()
    const answer = await fetch(`${running.url}/embed`, { method: 'POST', headers: json, body })
    expect([answer.status, await answer.json()]).toMatchObject([400, { code: 'INVALID_JSON' }])
    expect('polluted' in {}).toBe(false)
  })

  it('nested a million deep is refused as the client’s fault', async () => {
    await using running = await start()
    for (const path of ['/embed', '/v1/embeddings']) {
      const field = path === '/embed' ? 'inputs' : 'input'
      const body = `{"${field}":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`
      const answer = await fetch(running.url + path, { method: 'POST', headers: json, body })
      expect([answer.status >= 400 && answer.status < 500, path], await answer.text()).toEqual([true, path])
    }
    expect((await embed(running.url)).status).toBe(200)
  })
})

describe('failures of the server', () => {
  const secret = '/srv/secret/place/file.cc'

  it('tell a client neither stack nor path', async () => {
    const tokenizer = {
      encode: () => Promise.reject(new Error(`cannot map ${secret}`)),
      inspect: () => Promise.resolve([]),
      decode: () => Promise.resolve(''),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }
    await using broken = await start({}, { tokenizer })
    await using failing = await start({}, { failure: new Error(`${secret}:12 Non-zero status code`) })
    for (const [running, inputs, status, code] of [
      [broken, 'a', 500, 'INTERNAL'],
      // TEI's status for what its backend could not do
      [failing, [1, 2], 424, 'ENGINE_FAILED'],
    ] as const) {
      const answer = await embed(running.url, {}, { inputs })
      const text = await answer.text()
      expect([answer.status, text]).toEqual([status, expect.stringContaining(code)])
      expect(text).not.toMatch(/secret|node_modules|\.ts|\bat /)
    }
  })
})

describe('TLS', () => {
  it('speaks HTTPS, and goes over to a new certificate without ending a connection', async () => {
    const [tlsCert, tlsKey] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
    await copyFile(fixture('tls/first.crt'), tlsCert)
    await copyFile(fixture('tls/first.key'), tlsKey)
    await using running = await start({ tlsCert, tlsKey, host: 'localhost' })
    expect(running.url).toBe(`https://${running.url.includes('[') ? '[::1]' : '127.0.0.1'}:${running.port}`)

    const { port } = running
    const open = await openTls(port, '127.0.0.1')
    expect(open.getPeerCertificate().subject.CN).toBe('first.test')
    expect(await askTls(open)).toMatch(/^HTTP\/1\.1 200 /)
    await copyFile(fixture('tls/second.key'), tlsKey)
    await copyFile(fixture('tls/second.crt'), tlsCert)
    await running.server.reload(running.host.current.config)
    // Both families that 'localhost' stands for, where this machine has both.
    for (const { address } of await lookup('localhost', { all: true })) {
      const fresh = await openTls(port, address)
      expect([address, fresh.getPeerCertificate().subject.CN]).toEqual([address, 'second.test'])
      fresh.destroy()
    }
    expect(await askTls(open)).toMatch(/^HTTP\/1\.1 200 /)
    open.destroy()
  })

  it('does not answer plain HTTP', async () => {
    await using running = await start({ tlsCert: fixture('tls/first.crt'), tlsKey: fixture('tls/first.key') })
    const { text, isClosed } = await sendRaw(running.port, ['GET /livez HTTP/1.1\r\nhost: x\r\n\r\n'])
    expect([text.includes('200'), isClosed]).toEqual([false, true])
  })
})

function openConnection(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket)).on('error', reject)
  })
}

function openTls(port: number, host: string): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({ port, host, rejectUnauthorized: false }, () => resolve(socket))
    socket.on('error', reject)
  })
}

/** The first bytes of the answer to one request on an open connection. */
function askTls(socket: TLSSocket): Promise<string> {
  return new Promise((resolve) => {
    socket.once('data', (bytes: Buffer) => resolve(bytes.toString('latin1')))
    socket.write('GET /livez HTTP/1.1\r\nhost: x\r\n\r\n')
  })
}

function dribble(text: string): string[] {
  return Array.from({ length: 100 }, () => text)
}

/** What a server with this configuration logs at its start. */
async function warnings(config: ConfigValues): Promise<string> {
  const lines: string[] = []
  const host = new PipelineHost(createArithmeticPipeline({ config: { logLevel: 'warn', ...config } }))
  await using server = await createServer({ host, logStream: { write: (line) => void lines.push(line) } })
  await server.listen()
  await host[Symbol.asyncDispose]()
  return lines.join('')
}
