import { createHash, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { createTestServer, sendFile } from '../../../test/fakes/http-server.ts'
import { downloadFile } from './download.ts'
import type { PullProgress } from './progress.ts'

const content = randomBytes(300_000)
const sha256 = createHash('sha256').update(content).digest('hex')
const fast = { retryDelayMs: 5, sha256, sizeBytes: content.length }
let folder = ''
let destination = ''

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'download-'))
  destination = join(folder, 'sub', 'file.bin')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** Buffer.equals: toEqual compares element by element, a second per 300 kB. */
async function expectContent(path: string, expected: Buffer): Promise<void> {
  expect(expected.equals(await readFile(path))).toBe(true)
}

test('downloads a file whole, reports progress and leaves nothing else behind', async () => {
  await using server = await createTestServer((request, response) => sendFile(request, response, content))
  const events: PullProgress[] = []
  const file = await downloadFile(`${server.url}/file`, destination, {
    ...fast,
    headers: { authorization: 'Bearer t' },
    onProgress: (event) => events.push(event),
  })
  expect(file).toEqual({ sizeBytes: content.length, sha256 })
  await expectContent(destination, content)
  expect(await readdir(join(folder, 'sub'))).toEqual(['file.bin'])
  expect(server.requests[0]?.headers.authorization).toBe('Bearer t')
  expect(new Set(events.map((event) => event.phase))).toEqual(new Set(['connect', 'download', 'verify']))
  const last = events.findLast((event) => event.phase === 'download')
  expect(last).toEqual({
    file: 'file.bin',
    phase: 'download',
    receivedBytes: content.length,
    totalBytes: content.length,
  })
})

test('resumes after dropped connections with Range and If-Range, and no byte is fetched twice', async () => {
  await using server = await createTestServer((request, response, count) =>
    sendFile(request, response, content, count < 3 ? { cutAfterBytes: 50_000 } : {}),
  )
  await downloadFile(`${server.url}/file`, destination, fast)
  await expectContent(destination, content)
  expect(server.requests.map((request) => request.headers.range)).toEqual([
    undefined,
    'bytes=50000-',
    'bytes=100000-',
    'bytes=150000-',
  ])
  expect(server.requests[1]?.headers['if-range']).toMatch(/^"[0-9a-f]{40}"$/)
})

test('gives up after three retries, keeps the part file, and a later call resumes it', async () => {
  let healthy = false
  await using server = await createTestServer((request, response) =>
    sendFile(request, response, content, healthy ? {} : { cutAfterBytes: 1000 }),
  )
  const error = await failureOf(downloadFile(`${server.url}/file`, destination, fast))
  expect(error.code).toBe('DOWNLOAD_FAILED')
  expect(error.message).toContain('4 attempts')
  expect(error.message).toContain('4000 bytes are kept')
  expect(server.requests).toHaveLength(4)
  expect(existsSync(destination)).toBe(false)
  healthy = true
  await downloadFile(`${server.url}/file`, destination, fast)
  expect(server.requests[4]?.headers.range).toBe('bytes=4000-')
  await expectContent(destination, content)
})

test('retries are counted anew while a long transfer moves on by a MiB at a time', async () => {
  const long = randomBytes(9 << 20)
  await using server = await createTestServer((request, response) =>
    sendFile(request, response, long, { cutAfterBytes: 3 << 19 }),
  )
  await downloadFile(`${server.url}/file`, destination, { retryDelayMs: 5, sizeBytes: long.length })
  await expectContent(destination, long)
  expect(server.requests.length).toBeGreaterThan(5)
})

test('starts anew when the file changed on the server between two attempts', async () => {
  const old = randomBytes(content.length)
  await using server = await createTestServer((request, response, count) =>
    sendFile(request, response, count === 0 ? old : content, count === 0 ? { cutAfterBytes: 9000 } : {}),
  )
  await downloadFile(`${server.url}/file`, destination, fast)
  expect(server.requests[1]?.headers.range).toBe('bytes=9000-')
  await expectContent(destination, content)
})

test('falls back to a full download when the server ignores Range', async () => {
  await using server = await createTestServer((request, response, count) => {
    delete request.headers.range
    sendFile(request, response, content, count === 0 ? { cutAfterBytes: 9000 } : {})
  })
  await downloadFile(`${server.url}/file`, destination, fast)
  expect(server.requests).toHaveLength(2)
  await expectContent(destination, content)
})

test('never resumes without a strong ETag', async () => {
  await using server = await createTestServer((request, response, count) =>
    sendFile(request, response, content, { etag: 'W/"1"', ...(count === 0 ? { cutAfterBytes: 9000 } : {}) }),
  )
  await downloadFile(`${server.url}/file`, destination, fast)
  expect(server.requests.map((request) => request.headers.range)).toEqual([undefined, undefined])
  await expectContent(destination, content)
})

test('a part file longer than the file on the server is thrown away', async () => {
  await using server = await createTestServer((request, response) => sendFile(request, response, content))
  await downloadFile(`${server.url}/other`, destination)
  await writeFile(`${destination}.part`, Buffer.concat([content, content]))
  await writeFile(`${destination}.part.etag`, '"any"')
  await using strict = await createTestServer((request, response, count) =>
    count === 0 ? response.writeHead(416).end() : sendFile(request, response, content),
  )
  await downloadFile(`${strict.url}/file`, destination, fast)
  expect(strict.requests[0]?.headers.range).toBe('bytes=600000-')
  await expectContent(destination, content)
})

test('a part of the file that was not asked for is not used', async () => {
  await using server = await createTestServer((request, response, count) => {
    if (count === 0) sendFile(request, response, content, { cutAfterBytes: 9000 })
    else if (count === 1) {
      response.writeHead(206, { 'content-range': 'bytes 8000-299999/300000', 'content-length': 291_000 })
      response.end(content.subarray(8000, 299_000))
    } else sendFile(request, response, content)
  })
  await downloadFile(`${server.url}/file`, destination, fast)
  expect(server.requests[2]?.headers.range).toBeUndefined()
  await expectContent(destination, content)
})

test('a complete part file needs no request', async () => {
  await writeFile(join(folder, 'whole.part'), content)
  await writeFile(join(folder, 'whole.part.etag'), '"any"')
  await downloadFile('http://127.0.0.1:1/never', join(folder, 'whole'), fast)
  await expectContent(join(folder, 'whole'), content)
  expect(await readdir(folder)).toEqual(['whole'])
})

test('wrong bytes are a CHECKSUM_MISMATCH and are removed', async () => {
  const wrong = randomBytes(content.length)
  await using server = await createTestServer((request, response) => sendFile(request, response, wrong))
  const error = await failureOf(
    downloadFile(`${server.url}/file`, destination, { ...fast, name: 'model.bin' }),
  )
  expect(error.code).toBe('CHECKSUM_MISMATCH')
  expect(error.details).toEqual({
    file: 'model.bin',
    expected: sha256,
    actual: createHash('sha256').update(wrong).digest('hex'),
  })
  expect(await readdir(join(folder, 'sub'))).toEqual([])
})

test('a size other than announced fails before anything is written', async () => {
  await using server = await createTestServer((request, response) => sendFile(request, response, content))
  const error = await failureOf(downloadFile(`${server.url}/file`, destination, { sizeBytes: 7 }))
  expect(error.message).toContain('gives 300000 bytes, expected were 7')
  expect(await readdir(join(folder, 'sub'))).toEqual([])
})

test.each([401, 403, 404, 410])('HTTP %i is final and carries its status', async (status) => {
  await using server = await createTestServer((_request, response) => response.writeHead(status).end())
  const error = await failureOf(downloadFile(`${server.url}/file`, destination, fast))
  expect(error.code).toBe('DOWNLOAD_FAILED')
  expect(error.details).toMatchObject({ status, reason: `HTTP ${status}` })
  expect(server.requests).toHaveLength(1)
})

test.each([500, 503, 429])('HTTP %i is tried again', async (status) => {
  await using server = await createTestServer((request, response, count) =>
    count < 2 ? response.writeHead(status).end() : sendFile(request, response, content),
  )
  await downloadFile(`${server.url}/file`, destination, fast)
  expect(server.requests).toHaveLength(3)
})

test('honours Retry-After', async () => {
  await using server = await createTestServer((request, response, count) =>
    count === 0
      ? response.writeHead(503, { 'retry-after': '1' }).end()
      : sendFile(request, response, content),
  )
  const startedMs = performance.now()
  await downloadFile(`${server.url}/file`, destination, fast)
  expect(performance.now() - startedMs).toBeGreaterThan(950)
})

test('a Retry-After beyond a minute is told, not waited for', async () => {
  await using server = await createTestServer((_request, response) =>
    response.writeHead(429, { 'retry-after': '3600' }).end(),
  )
  const error = await failureOf(downloadFile(`${server.url}/file`, destination, fast))
  expect(error.message).toContain('HTTP 429, asks to come back in 3600 s')
})

test('a stalled transfer is noticed and resumed', async () => {
  await using server = await createTestServer((request, response, count) => {
    if (count > 0) {
      sendFile(request, response, content)
      return
    }
    response.writeHead(200, { 'content-length': content.length, etag: '"x"' })
    response.write(content.subarray(0, 1000))
  })
  await downloadFile(`${server.url}/file`, destination, { ...fast, stallTimeoutMs: 200 })
  expect(server.requests[1]?.headers.range).toBe('bytes=1000-')
  await expectContent(destination, content)
})

test('a slow transfer is not a stalled one', async () => {
  await using server = await createTestServer((_request, response) => {
    response.writeHead(200, { 'content-length': 10 })
    let sent = 0
    const timer = setInterval(() => {
      response.write('x')
      if (++sent < 10) return
      clearInterval(timer)
      response.end()
    }, 60)
  })
  await downloadFile(`${server.url}/file`, destination, { stallTimeoutMs: 400, retryDelayMs: 5 })
  expect(server.requests).toHaveLength(1)
})

test('a server that never answers is noticed', async () => {
  await using server = await createTestServer(() => {})
  const error = await failureOf(
    downloadFile(`${server.url}/file`, destination, { ...fast, stallTimeoutMs: 50 }),
  )
  expect(error.message).toContain('gave no answer within 50 ms (4 attempts)')
})

test('an abort keeps the part file for a resume', async () => {
  const controller = new AbortController()
  await using server = await createTestServer((request, response, count) => {
    if (count > 0) {
      sendFile(request, response, content)
      return
    }
    response.writeHead(200, { 'content-length': content.length, etag: '"x"' })
    response.write(content.subarray(0, 1000))
  })
  const error = await failureOf(
    downloadFile(`${server.url}/file`, destination, {
      ...fast,
      signal: controller.signal,
      onProgress: (event) => {
        if (event.receivedBytes > 0) controller.abort()
      },
    }),
  )
  expect(error.code).toBe('REQUEST_CANCELLED')
  await expectContent(`${destination}.part`, content.subarray(0, 1000))
  await downloadFile(`${server.url}/file`, destination, fast)
  expect(server.requests[1]?.headers.range).toBe('bytes=1000-')
})

test('an abort ends the wait between two attempts', async () => {
  const controller = new AbortController()
  await using server = await createTestServer((_request, response) => {
    response.writeHead(503).end()
    setTimeout(() => controller.abort(), 30)
  })
  const startedMs = performance.now()
  const options = { signal: controller.signal, retryDelayMs: 20_000 }
  const error = await failureOf(downloadFile(`${server.url}/file`, destination, options))
  expect(error.code).toBe('REQUEST_CANCELLED')
  expect(performance.now() - startedMs).toBeLessThan(5000)
})

test.runIf(existsSync('/dev/full'))('a full disk is NO_SPACE and is not retried', async () => {
  await symlink('/dev/full', join(folder, 'file.part'))
  await using server = await createTestServer((request, response) => sendFile(request, response, content))
  const error = await failureOf(downloadFile(`${server.url}/file`, join(folder, 'file'), fast))
  expect(error.code).toBe('NO_SPACE')
  expect(error.details).toEqual({ path: join(folder, 'file.part'), neededBytes: content.length })
  expect(server.requests).toHaveLength(1)
})

test('more bytes than the disk has free are refused before they are fetched', async () => {
  const petabyte = 2 ** 50
  await using server = await createTestServer((_request, response) => {
    response.writeHead(200, { 'content-length': petabyte })
    response.write('x')
  })
  const error = await failureOf(downloadFile(`${server.url}/file`, destination))
  expect(error.code).toBe('NO_SPACE')
  expect(error.details).toMatchObject({ neededBytes: petabyte })
})

test('a folder that cannot be made is FILE_UNWRITABLE', async () => {
  await writeFile(join(folder, 'sub'), 'a file in the way')
  const error = await failureOf(downloadFile('http://127.0.0.1:1/x', destination))
  expect(error.code).toBe('FILE_UNWRITABLE')
})

test('follows redirects and gives the token to no other host', async () => {
  await using storage = await createTestServer((request, response) => sendFile(request, response, content))
  await using hub = await createTestServer((request, response) =>
    response
      .writeHead(302, { location: request.url === '/file' ? '/signed' : `${storage.url}/blob?signature=1` })
      .end(),
  )
  await downloadFile(`${hub.url}/file`, destination, { ...fast, headers: { Authorization: 'Bearer secret' } })
  expect(hub.requests.map((request) => request.headers.authorization)).toEqual([
    'Bearer secret',
    'Bearer secret',
  ])
  expect(storage.requests[0]?.headers.authorization).toBeUndefined()
  await expectContent(destination, content)
})

test('a redirect loop ends', async () => {
  await using server = await createTestServer((_request, response) =>
    response.writeHead(302, { location: '/file' }).end(),
  )
  const error = await failureOf(downloadFile(`${server.url}/file`, destination, { retryDelayMs: 1 }))
  expect(error.message).toContain('more than 8 redirects')
})

test('a refused connection fails at once, without retries', async () => {
  const startedMs = performance.now()
  const error = await failureOf(downloadFile('http://user:secret@127.0.0.1:1/file', destination))
  expect(error.code).toBe('DOWNLOAD_FAILED')
  expect(error.message).toMatch(/cannot connect to 127\.0\.0\.1:1: .*ECONNREFUSED/)
  expect(error.message).not.toContain('secret')
  expect(performance.now() - startedMs).toBeLessThan(1000)
})

test('an unknown host fails within the connect time', async () => {
  const startedMs = performance.now()
  const error = await failureOf(downloadFile('http://no-such-host.invalid/file', destination))
  expect(error.code).toBe('DOWNLOAD_FAILED')
  expect(error.message).toContain('no-such-host.invalid')
  expect(performance.now() - startedMs).toBeLessThan(3500)
})

test('a host that accepts and then stays silent during TLS fails within the connect time', async () => {
  const server = createServer(() => {})
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const startedMs = performance.now()
  const error = await failureOf(
    downloadFile(`https://127.0.0.1:${port}/file`, destination, { connectTimeoutMs: 300 }),
  )
  server.close()
  expect(error.message).toContain('within 300 ms')
  expect(performance.now() - startedMs).toBeLessThan(2000)
})
