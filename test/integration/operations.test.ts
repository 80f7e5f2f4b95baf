/** Signals, as a service manager sends them to the built program: nothing that was accepted is lost. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { post, startLoad } from '../fixtures/http-load.ts'
import { type ServeProcess, mainFile, startServe } from '../fixtures/serve-process.ts'
import { writeTinyBert } from '../fixtures/tiny-model.ts'

let folder: string
let models: { first: string; second: string }
let shared: string[]
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'akidb-operations-'))
  models = { first: join(folder, 'first'), second: join(folder, 'second') }
  await writeTinyBert(models.first)
  await writeTinyBert(models.second, { pooling: 'cls' })
  shared = [
    '--cache-dir',
    join(folder, 'cache'),
    '--engine',
    'onnx',
    '--threads',
    '1',
    '--offline',
    '--port',
    '0',
  ]
})
afterAll(() => rm(folder, { recursive: true }))

const start = (...args: string[]): Promise<ServeProcess> =>
  startServe([...shared, '--model', models.first, ...args], { HOME: folder })
const acceptedBy = async ({ url }: ServeProcess): Promise<number> => {
  const stats = (await (await fetch(`${url}/stats`)).json()) as { queue: { requests: number } }
  return stats.queue.requests
}
const statusOf = (url: string) =>
  fetch(url, { headers: { connection: 'close' } }).then(
    (answer) => answer.status,
    () => 'refused',
  )

const oneText = '{"inputs":"the cat and the dog"}'
/** Tenths of a second of work for the tiny model. */
const longList = JSON.stringify({
  inputs: Array.from({ length: 2048 }, () => 'the cat and the dog '.repeat(20)),
})

describe('SIGTERM', () => {
  it('under load loses no request and ends with 0', async () => {
    await using serve = await start()
    const load = startLoad(`${serve.url}/embed`, { clients: 8, body: oneText })
    await expect.poll(() => load.outcomes['200'] ?? 0).toBeGreaterThan(100)
    serve.child.kill('SIGTERM')
    expect(await serve.ended).toBe(0)
    const { outcomes } = await load.stop()
    expect(outcomes).toEqual({ 200: expect.any(Number) as number, ECONNREFUSED: 8 })
    expect(serve.output()).not.toContain('"level":50')
  })

  it('makes it not ready at once, and lets a balancer turn away for shutdownDelayMs', async () => {
    await using serve = await start('--shutdown-delay-ms', '600')
    expect(await statusOf(`${serve.url}/readyz`)).toBe(200)
    const load = startLoad(`${serve.url}/embed`, { clients: 2, body: oneText })
    serve.child.kill('SIGTERM')
    await expect.poll(() => statusOf(`${serve.url}/readyz`), { interval: 5 }).toBe(503)
    expect([await statusOf(`${serve.url}/livez`), await statusOf(`${serve.url}/health`)]).toEqual([200, 503])
    const answer = await post(`${serve.url}/embed`, oneText)
    expect([answer.status, answer.headers.connection]).toEqual([200, 'close'])
    // A balancer has turned away before the delay is over.
    expect((await load.stop()).outcomes).toEqual({ 200: expect.any(Number) as number })
    expect(await serve.ended).toBe(0)
  })

  it('past the drain limit answers the rest with a coded 503 and ends with 3', async () => {
    await using serve = await start('--drain-timeout-ms', '100', '--max-queued-tokens', '100000000')
    const late = Array.from({ length: 9 }, () => post(`${serve.url}/embed`, longList))
    const lateOpenai = post(`${serve.url}/v1/embeddings`, longList.replace('inputs', 'input'))
    await expect.poll(() => acceptedBy(serve), { interval: 5 }).toBeGreaterThanOrEqual(9)
    serve.child.kill('SIGTERM')
    const answers = await Promise.all(late)
    expect(answers.map(({ status, headers }) => [status, headers.connection])).toContainEqual([503, 'close'])
    for (const { status, body } of answers.filter((answer) => answer.status !== 200)) {
      expect([status, JSON.parse(body)]).toMatchObject([
        503,
        { error_type: 'Unhealthy', code: 'SHUTTING_DOWN' },
      ])
    }
    expect(JSON.parse((await lateOpenai).body)).toMatchObject({ error: { code: 'shutting_down' } })
    expect(await serve.ended).toBe(3)
    expect(serve.output()).toMatch(/error DRAIN_TIMEOUT: stopped with \d+ requests refused/)
  })

  it('before it is ready ends it with 0', async () => {
    // Nobody answers at this address, so the pull of the model goes on until it is stopped.
    const silent = createServer(() => undefined).listen(0, '127.0.0.1')
    await new Promise((resolve) => silent.once('listening', resolve))
    const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
    const args = [
      'serve',
      '--model',
      'org/none',
      '--hf-endpoint',
      endpoint,
      '--cache-dir',
      join(folder, 'none'),
    ]
    const asked = new Promise((resolve) => silent.once('connection', resolve))
    const child = spawn(process.execPath, [mainFile, ...args], { env: { HOME: folder }, stdio: 'ignore' })
    const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)))
    await asked
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
    silent.close()
  })

  it('a second time ends it at once', async () => {
    await using serve = await start()
    const late = post(`${serve.url}/embed`, longList).catch((error: NodeJS.ErrnoException) => error.code)
    await expect.poll(() => acceptedBy(serve), { interval: 5 }).toBe(1)
    serve.child.kill('SIGTERM')
    await expect.poll(serve.output).toContain('stopping')
    serve.child.kill('SIGTERM')
    expect([await serve.ended, await late]).toEqual([143, 'ECONNRESET'])
  })
})

describe('SIGHUP', () => {
  it('under load goes over to another model and back, and no request fails', async () => {
    const configFile = join(folder, 'config.json')
    const configure = (values: object) => writeFile(configFile, JSON.stringify(values))
    await configure({ model: models.first })
    await using serve = await startServe([...shared, '--config', configFile], { HOME: folder })
    const reloads = () => serve.output().split('reloaded\n').length - 1
    const seen = new Set<string>()
    const load = startLoad(`${serve.url}/embed`, {
      clients: 4,
      body: oneText,
      onAnswer: ({ body }) => seen.add(body),
    })
    await expect.poll(() => load.outcomes['200'] ?? 0).toBeGreaterThan(50)
    const { body: before } = await post(`${serve.url}/embed`, oneText)
    const modelNow = async () =>
      ((await (await fetch(`${serve.url}/v1/models`)).json()) as { data: { id: string }[] }).data[0]!.id

    await configure({ model: models.second, servedModelName: 'another', host: '0.0.0.0' })
    serve.child.kill('SIGHUP')
    await expect.poll(reloads, { timeout: 20_000 }).toBe(1)
    const { body: between } = await post(`${serve.url}/embed`, oneText)
    expect([between === before, await modelNow()]).toEqual([false, 'another'])
    expect(serve.output()).toMatch(/"kept":\["host"\].*a reload cannot change host; restart/)

    // What does not start changes nothing, and says why.
    await configure({ model: join(folder, 'nowhere') })
    serve.child.kill('SIGHUP')
    await expect.poll(serve.output, { timeout: 20_000 }).toMatch(/the model was not reloaded.*nowhere/)
    await writeFile(configFile, '{"model": ')
    serve.child.kill('SIGHUP')
    await expect.poll(serve.output, { timeout: 20_000 }).toMatch(/nothing was reloaded.*is not valid JSON/)
    expect((await post(`${serve.url}/embed`, oneText)).body).toBe(between)

    await configure({ model: models.first })
    serve.child.kill('SIGHUP')
    await expect.poll(reloads, { timeout: 20_000 }).toBe(2)
    expect([(await post(`${serve.url}/embed`, oneText)).body === between, await modelNow()]).toEqual([
      false,
      'first',
    ])

    await configure({ model: models.first, servedModelName: 'renamed' })
    serve.child.kill('SIGHUP')
    await expect.poll(serve.output, { timeout: 20_000 }).toContain('the model is the same and goes on')
    expect([await modelNow(), reloads()]).toEqual(['renamed', 2])

    // Other files under the same name.
    await writeTinyBert(models.first, { pooling: 'cls' })
    serve.child.kill('SIGHUP')
    await expect.poll(reloads, { timeout: 20_000 }).toBe(3)
    expect((await post(`${serve.url}/embed`, oneText)).body).toBe(between)

    const { outcomes } = await load.stop()
    expect(outcomes).toEqual({ 200: expect.any(Number) as number })
    expect(seen.has(before) && seen.has(between)).toBe(true)
    serve.child.kill('SIGTERM')
    expect(await serve.ended).toBe(0)
  })
})
