import { createHash } from 'node:crypto'
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http'

export interface TestRequest {
  readonly path: string
  readonly headers: IncomingMessage['headers']
}

export interface TestServer extends AsyncDisposable {
  readonly url: string
  readonly requests: readonly TestRequest[]
}

export type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => void

/** A real HTTP server on a free port of this machine; `count` is the number of requests for the same path before. */
export async function createTestServer(handler: Handler): Promise<TestServer> {
  const requests: TestRequest[] = []
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    const count = requests.filter((earlier) => earlier.path === path).length
    requests.push({ path, headers: request.headers })
    handler(request, response, count)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the test server has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => {
        server.close(resolve)
      })
    },
  }
}

export interface SendOptions {
  /** Send only so many bytes, then cut the connection. */
  readonly cutAfterBytes?: number
  readonly etag?: string | undefined
}

/** Answers like a static file server: ETag, Range and If-Range (one open-ended range). */
export function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  content: Buffer,
  options: SendOptions = {},
): void {
  const etag = 'etag' in options ? options.etag : `"${createHash('sha1').update(content).digest('hex')}"`
  if (etag !== undefined) response.setHeader('etag', etag)
  const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')
  const ifRange = request.headers['if-range']
  const start = range !== null && (ifRange === undefined || ifRange === etag) ? Number(range[1]) : 0
  if (start > 0 && start >= content.length) {
    response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end()
    return
  }
  const rest = content.subarray(start)
  const partial =
    start > 0 ? { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` } : {}
  response.writeHead(start > 0 ? 206 : 200, { 'content-length': rest.length, ...partial })
  if (options.cutAfterBytes === undefined) {
    response.end(rest)
    return
  }
  response.write(rest.subarray(0, options.cutAfterBytes), () => {
    // Time for the client to read the bytes before the reset, on a busy machine too.
    setTimeout(() => response.destroy(), 80)
  })
}
