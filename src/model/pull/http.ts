import { type IncomingMessage, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'

export interface OpenOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** From the start to an open connection, TLS included. */
  readonly connectTimeoutMs: number
  /** From an open connection to the first bytes of the answer. */
  readonly answerTimeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/** The host could not be reached at all: name unknown, refused, or silent. Trying again at once is pointless. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError'
}

const maxRedirects = 8

/** GET with redirects followed; the body is not read yet, the caller owns (reads or destroys) it.
 * node:http and not fetch: only a socket tells "no connection" (3 s) from "a slow answer" (longer).
 * @throws {UnreachableError} no connection within connectTimeoutMs; any other Error: it broke off later */
export async function openUrl(url: string, options: OpenOptions): Promise<IncomingMessage> {
  let current = new URL(url)
  let headers = { ...options.headers }
  for (let hop = 0; hop <= maxRedirects; hop++) {
    const response = await openOnce(current, headers, options)
    const location = response.headers.location
    const isRedirect = [301, 302, 303, 307, 308].includes(response.statusCode ?? 0) && location !== undefined
    if (!isRedirect) return response
    response.resume()
    const next = new URL(location, current)
    if (next.protocol !== 'http:' && next.protocol !== 'https:')
      throw new Error(`redirected to ${next.protocol}`)
    // A token is for the host it was given for: hubs redirect to storage hosts with signed links.
    if (next.origin !== current.origin) headers = withoutAuthorization(headers)
    current = next
  }
  throw new Error(`more than ${maxRedirects} redirects`)
}

function openOnce(url: URL, headers: Record<string, string>, options: OpenOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const secure = url.protocol === 'https:'
    let connected = false
    const request = (secure ? requestHttps : requestHttp)(url, {
      headers: { 'user-agent': 'akidb-embedding', 'accept-encoding': 'identity', ...headers },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    })
    let timer = setTimeout(() => {
      request.destroy(
        new UnreachableError(`no connection to ${url.host} within ${options.connectTimeoutMs} ms`),
      )
    }, options.connectTimeoutMs)
    const onConnected = (): void => {
      connected = true
      clearTimeout(timer)
      timer = setTimeout(() => {
        request.destroy(new Error(`${url.host} gave no answer within ${options.answerTimeoutMs} ms`))
      }, options.answerTimeoutMs)
    }
    request.on('socket', (socket) => {
      // A kept-alive socket is open already.
      if (socket.connecting) socket.once(secure ? 'secureConnect' : 'connect', onConnected)
      else onConnected()
    })
    request.on('response', (response) => {
      clearTimeout(timer)
      resolve(response)
    })
    request.on('error', (error) => {
      clearTimeout(timer)
      const isWrapped = connected || error instanceof UnreachableError || options.signal?.aborted === true
      reject(isWrapped ? error : new UnreachableError(toConnectReason(error, url), { cause: error }))
    })
    request.end()
  })
}

/** An AggregateError (one entry an address tried) has an empty message of its own. */
function toConnectReason(error: Error, url: URL): string {
  const message = error instanceof AggregateError ? String(error.errors[0]?.message ?? error) : error.message
  return `cannot connect to ${url.host}: ${message}`
}

function withoutAuthorization(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization'),
  )
}
