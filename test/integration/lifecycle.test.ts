/** What happens to requests and connections while a server stops or its pipeline is swapped. */
import { connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import { createArithmeticPipeline } from '../fakes/arithmetic-pipeline.ts'
import { post } from '../fixtures/http-load.ts'
import { type ArithmeticServer, startArithmeticServer } from '../fixtures/start-arithmetic-server.ts'

const body = '{"inputs":[[3,4]],"normalize":false}'
const embed = ({ url }: ArithmeticServer) => post(`${url}/embed`, body)
const isBusy = ({ host }: ArithmeticServer) => host.current.pipeline.queueState.requests > 0

/** A connection that was opened, and has carried one request or none. */
async function openIdle(port: number, withRequest: boolean) {
  const socket = connect(port, '127.0.0.1')
  let text = ''
  socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
  await new Promise((resolve) => socket.once('connect', resolve))
  const ask = () => socket.write('GET /livez HTTP/1.1\r\nhost: x\r\n\r\n')
  if (withRequest) {
    ask()
    await expect.poll(() => text).toContain('alive')
  }
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  return { ask, read: () => text, closed }
}

describe('stopping', () => {
  it('answers a slow request and does not wait for connections that carry none', async () => {
    await using running = await startArithmeticServer({}, { durationMs: 700 })
    const idle = [await openIdle(running.port, true), await openIdle(running.port, false)]
    const slow = embed(running)
    await expect.poll(() => isBusy(running)).toBe(true)
    const startMs = performance.now()
    expect(await running.server.close()).toBe(0)
    const durationMs = performance.now() - startMs
    const { status, headers, body: vectors } = await slow
    expect([status, headers.connection, vectors]).toEqual([200, 'close', '[[7,2]]'])
    await Promise.all(idle.map(({ closed }) => closed))
    expect(durationMs).toBeGreaterThan(500)
    expect(durationMs).toBeLessThan(3000)
  })

  it('answers a request that comes on an open connection after the stop', async () => {
    await using running = await startArithmeticServer()
    const [used, fresh] = [await openIdle(running.port, true), await openIdle(running.port, false)]
    const closing = running.server.close()
    await expect(fetch(`${running.url}/livez`)).rejects.toThrow('fetch failed')
    used.ask()
    fresh.ask()
    await Promise.all([used.closed, fresh.closed, closing])
    expect(used.read().match(/HTTP\/1\.1 200/g)).toHaveLength(2)
    expect(used.read()).toMatch(/connection: close/i)
    expect(fresh.read()).toMatch(/^HTTP\/1\.1 200 [^]*connection: close/i)
  })

  it('gives up on an engine that hangs: 503 in the dialect, and the number of those it refused', async () => {
    const logged: string[] = []
    const running = await startArithmeticServer(
      { drainTimeoutMs: 300, logLevel: 'info' },
      { durationMs: 60_000, logStream: { write: (line) => void logged.push(line) } },
    )
    const answers = [embed(running), post(`${running.url}/v1/embeddings`, '{"input":"a"}')]
    await expect.poll(() => running.host.current.pipeline.queueState.requests).toBe(2)
    expect(await running.server.close()).toBe(2)
    const [tei, openai] = await Promise.all(answers)
    expect([tei!.status, JSON.parse(tei!.body)]).toMatchObject([503, { code: 'SHUTTING_DOWN' }])
    expect([openai!.status, JSON.parse(openai!.body)]).toMatchObject([
      503,
      { error: { code: 'shutting_down' } },
    ])
    // Their places are free, as if the clients had left.
    await expect.poll(() => isBusy(running)).toBe(false)
    const entries = logged.map((line) => JSON.parse(line) as { code?: string })
    expect(entries.map(({ code }) => code)).toEqual(['SHUTTING_DOWN', 'SHUTTING_DOWN'])
  })

  it('is asked twice and stops once', async () => {
    await using running = await startArithmeticServer()
    expect(await Promise.all([running.server.close(), running.server.close()])).toEqual([0, 0])
  })
})

describe('a swapped pipeline', () => {
  it('answers what it was given, the next one what comes after, and is disposed then', async () => {
    await using running = await startArithmeticServer({}, { durationMs: 300 })
    const [first, second] = [running.engine, createArithmeticPipeline({ id: 'second' })]
    const early = embed(running)
    await expect.poll(() => isBusy(running)).toBe(true)
    await running.host.reload(() => Promise.resolve(second))
    expect((await embed(running)).status).toBe(200)
    expect([first.isDisposed, second.engine.batches.length]).toEqual([false, 1])
    expect([(await early).status, first.batches.length]).toEqual([200, 1])
    await running.host.whenRetired()
    expect([first.isDisposed, second.engine.isDisposed]).toEqual([true, false])
    const models = await (await fetch(`${running.url}/v1/models`)).text()
    expect(models).toContain('"id":"second"')
  })

  it('is disposed when a client has left in the middle of its request', async () => {
    await using running = await startArithmeticServer({}, { durationMs: 200 })
    const left = new AbortController()
    const headers = { 'content-type': 'application/json' }
    const early = fetch(`${running.url}/embed`, { method: 'POST', headers, body, signal: left.signal })
    await expect.poll(() => isBusy(running)).toBe(true)
    await running.host.reload(() => Promise.resolve(createArithmeticPipeline()))
    left.abort()
    await expect(early).rejects.toThrow('abort')
    await running.host.whenRetired()
    expect(running.engine.isDisposed).toBe(true)
  })
})
