/** POST /admin/profile: who may ask, what it answers, and that the server serves on meanwhile. */
import { networkInterfaces } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ConfigValues } from '../../src/config/load.ts'
import { createProfilePlugin, type ServerProfileAnswer } from '../../src/tuning/profiler/server-plugin.ts'
import { createArithmeticPipeline } from '../fakes/arithmetic-pipeline.ts'
import { type ArithmeticServer, startArithmeticServer } from '../fixtures/start-arithmetic-server.ts'

const key = { authorization: 'Bearer own-key' }

function start(
  config: ConfigValues = { apiKey: 'own-key' },
  signal = new AbortController().signal,
): Promise<ArithmeticServer> {
  return startArithmeticServer(config, {
    durationMs: 5,
    plugin: (host) => createProfilePlugin({ host, findCupti: notAsked, signal }),
  })
}

function post(url: string, body: unknown, headers: Record<string, string> = key, signal?: AbortSignal) {
  return fetch(`${url}/admin/profile`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  })
}

const notAsked = () => Promise.reject(new Error('no GPU is in use'))

const embed = (url: string) =>
  fetch(`${url}/embed`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...key },
    body: JSON.stringify({ inputs: ['abcd', 'ab'] }),
  })

describe('POST /admin/profile', () => {
  let running: ArithmeticServer
  beforeAll(async () => (running = await start()))
  afterAll(() => running[Symbol.asyncDispose]())

  it('tells what the server did meanwhile, and draws it', async () => {
    const answer = post(running.url, { seconds: 0.5, trace: true })
    await new Promise((resolve) => setTimeout(resolve, 100))
    const statuses = (await Promise.all([embed(running.url), embed(running.url)])).map(({ status }) => status)
    expect(statuses).toEqual([200, 200])
    const response = await answer
    expect(response.status).toBe(200)
    const { profile, trace } = (await response.json()) as ServerProfileAnswer
    expect(profile).toMatchObject({
      model: 'arithmetic',
      engine: { name: 'arithmetic' },
      host: { requests: 2, failedRequests: 0 },
    })
    expect(profile.host.durationMs).toBeGreaterThanOrEqual(490)
    expect(profile.host.stages.map(({ instances }) => instances).slice(0, 3)).toEqual([2, 2, 2])
    expect(profile.criteria.map(({ name }) => name)).toContain('event loop utilisation')
    expect(profile.advice[0]!.reason).toMatch(/^under this load the engine has nothing to do \d+ %/)
    expect(trace!.traceEvents.filter(({ ph }) => ph === 'X').length).toBe(3 * 2 + profile.host.batches)
    expect('gpu' in profile).toBe(false)
  })

  it('takes one at a time, and the next after it', async () => {
    const first = post(running.url, { seconds: 0.3 })
    await new Promise((resolve) => setTimeout(resolve, 100))
    const second = await post(running.url, { seconds: 0.3 })
    expect(second.status).toBe(409)
    expect(await second.json()).toMatchObject({ error: { code: 'profiler_busy' } })
    expect((await first).status).toBe(200)
    expect((await post(running.url, { seconds: 0.1 })).status).toBe(200)
  })

  it('ends when its client leaves', async () => {
    const leaving = new AbortController()
    const left = post(running.url, { seconds: 60 }, key, leaving.signal).catch(() => 'left')
    await new Promise((resolve) => setTimeout(resolve, 100))
    leaving.abort()
    expect(await left).toBe('left')
    await expect
      .poll(async () => (await post(running.url, { seconds: 0.1 })).status, { timeout: 5000 })
      .toBe(200)
  })

  it.each([{}, { seconds: 0 }, { seconds: 61 }, { seconds: '1' }, { seconds: 1, trace: 'yes' }])(
    'refuses %j',
    async (body) => {
      expect((await post(running.url, body)).status).toBe(400)
    },
  )

  it('wants a key', async () => {
    expect((await post(running.url, { seconds: 0.1 }, {})).status).toBe(401)
    expect((await post(running.url, { seconds: 0.1 }, { 'x-api-key': 'wrong' })).status).toBe(401)
  })

  it.each(['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip'])(
    'is not there for what a proxy forwards (%s)',
    async (header) => {
      expect((await post(running.url, { seconds: 0.1 }, { ...key, [header]: '127.0.0.1' })).status).toBe(404)
    },
  )
})

describe('POST /admin/profile', () => {
  it('is not there where no key is set', async () => {
    await using running = await start({})
    expect((await post(running.url, { seconds: 0.1 }, {})).status).toBe(404)
    expect((await post(running.url, { seconds: 0.1 })).status).toBe(404)
  })

  it('is not there without the plugin', async () => {
    await using running = await startArithmeticServer({ apiKey: 'own-key' })
    expect((await post(running.url, { seconds: 0.1 })).status).toBe(404)
  })

  const outside = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .find(({ internal, family }) => !internal && family === 'IPv4')?.address
  it.skipIf(outside === undefined)(
    'is not there for another machine (skipped without a network)',
    async () => {
      await using running = await start({ apiKey: 'own-key', host: '0.0.0.0' })
      expect((await post(`http://${outside}:${running.port}`, { seconds: 0.1 })).status).toBe(404)
      expect((await post(`http://127.0.0.1:${running.port}`, { seconds: 0.1 })).status).toBe(200)
    },
  )

  it('answers with what it has when the server stops', async () => {
    const stop = new AbortController()
    await using running = await start({ apiKey: 'own-key' }, stop.signal)
    const answer = post(running.url, { seconds: 60 })
    await new Promise((resolve) => setTimeout(resolve, 200))
    await embed(running.url)
    stop.abort()
    const { profile } = (await (await answer).json()) as ServerProfileAnswer
    expect(profile.host.requests).toBe(1)
    expect(profile.host.durationMs).toBeLessThan(30_000)
  })

  it('tells the log what is missing for an engine on a GPU, and the client that it cannot', async () => {
    const lines: string[] = []
    const missing = {
      name: 'libcupti',
      title: 'CUPTI',
      found: undefined,
      searched: ['/nowhere'],
      fix: 'bring it',
    } as const
    await using running = await startArithmeticServer(
      { apiKey: 'own-key', logLevel: 'warn' },
      {
        logStream: { write: (line) => void lines.push(line) },
        plugin: (host) =>
          createProfilePlugin({
            host,
            findCupti: () => Promise.resolve(missing),
            signal: new AbortController().signal,
          }),
      },
    )
    Object.defineProperty(running.engine, 'info', { value: { ...running.engine.info, name: 'cuda' } })
    for (const attempt of [1, 2]) {
      const response = await post(running.url, { seconds: 0.1 })
      expect(response.status, `attempt ${attempt}`).toBe(503)
    }
    expect(lines.filter((line) => line.includes('CUPTI was not found'))).toHaveLength(2)
  })

  it('goes on over a reload', async () => {
    await using running = await start()
    const answer = post(running.url, { seconds: 0.6 })
    await new Promise((resolve) => setTimeout(resolve, 100))
    await embed(running.url)
    await running.host.reload(() =>
      Promise.resolve(createArithmeticPipeline({ config: { apiKey: 'own-key' } })),
    )
    await embed(running.url)
    const { profile } = (await (await answer).json()) as ServerProfileAnswer
    expect(profile.host.requests).toBe(2)
  })
})
