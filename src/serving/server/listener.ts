/** The sockets under the application: HTTP or HTTPS, one server for each address that is bound. */
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer, Server as HttpsServer } from 'node:https'
import { type AddressInfo, BlockList, Server as NetServer, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import type { Config } from '../../config/schema.ts'
import { EmbedError, toReason } from '../../errors.ts'
import type { TlsFiles } from './security/tls.ts'

export type ListenerLimits = Pick<
  Config,
  'maxConnections' | 'headersTimeoutMs' | 'receiveTimeoutMs' | 'keepAliveTimeoutMs'
>

/** A TLS handshake that takes longer is no client. */
const handshakeTimeoutMs = 10_000
/** Bound of the wait for a turn of the event loop without a new connection. */
const maxAcceptTurns = 100

export class Listener {
  readonly #limits: ListenerLimits
  readonly #tls: TlsFiles | undefined
  readonly #handle: RequestListener
  readonly #servers: Server[] = []
  /** Open connections, whether they carry a request or not. */
  readonly #sockets = new Set<Socket>()
  #acceptedCount = 0

  constructor(limits: ListenerLimits, tls: TlsFiles | undefined, handle: RequestListener) {
    this.#limits = limits
    this.#tls = tls
    this.#handle = handle
    this.#servers.push(this.#createServer())
  }

  get main(): Server {
    return this.#servers[0]!
  }

  /** Binds the host, 'localhost' in both families.
   * @returns the URL @throws {EmbedError} PORT_IN_USE, LISTEN_FAILED */
  async listen(host: string, port: number): Promise<string> {
    const [first = host, ...others] = await addressesOf(host)
    await bind(this.main, first, port)
    const bound = this.main.address() as AddressInfo
    for (const address of others) {
      const server = this.#createServer()
      // Bad requests are answered by whoever listens on the first server.
      server.on('clientError', (...event) => this.main.emit('clientError', ...event))
      // A family that this machine lacks is no failure.
      await bind(server, address, bound.port).then(
        () => this.#servers.push(server),
        () => undefined,
      )
    }
    return `${this.#tls === undefined ? 'http' : 'https'}://${toUrlHost(bound)}:${bound.port}`
  }

  /** Every bound address is one that only this machine reaches. */
  get isLoopback(): boolean {
    return this.#servers.every((server) => {
      const { address, family } = server.address() as AddressInfo
      return loopback.check(address, family === 'IPv6' ? 'ipv6' : 'ipv4')
    })
  }

  /** New connections get the new certificate, open ones stay as they are. */
  setTls(files: TlsFiles): void {
    for (const server of this.#servers) if (server instanceof HttpsServer) server.setSecureContext(files)
  }

  /** Takes no new connections and leaves the open ones alone: http.Server's own close() would cut idle ones that a
   * request is just on its way to.
   * @returns settles when the last connection has ended */
  async stopListening(): Promise<void> {
    // The kernel resets connections that it has taken and Node has not; after a turn that brought none there are none.
    for (let turn = 0, before = -1; turn < maxAcceptTurns && before !== this.#acceptedCount; turn++) {
      before = this.#acceptedCount
      await setImmediate()
    }
    const closing = this.#servers.map(
      (server) => new Promise<void>((resolve) => NetServer.prototype.close.call(server, () => resolve())),
    )
    await Promise.all(closing)
  }

  /** Ends connections that carry no request, those that never sent one included. */
  closeIdle(busy: ReadonlySet<Socket>): void {
    for (const socket of this.#sockets) if (!busy.has(socket)) socket.destroySoon()
  }

  closeAll(): void {
    for (const server of this.#servers) {
      server.closeAllConnections()
      // Ends Node's timer that looks for slow requests.
      server.close()
    }
    for (const socket of this.#sockets) socket.destroy()
  }

  #createServer(): Server {
    const { maxConnections, headersTimeoutMs, receiveTimeoutMs, keepAliveTimeoutMs } = this.#limits
    const options = {
      headersTimeout: Math.min(headersTimeoutMs, receiveTimeoutMs),
      requestTimeout: receiveTimeoutMs,
      keepAliveTimeout: keepAliveTimeoutMs,
      // Node looks every 30 s by default; a timeout below that would come late.
      connectionsCheckingInterval: Math.max(50, Math.min(5000, headersTimeoutMs / 4)),
    }
    const server =
      this.#tls === undefined
        ? createHttpServer(options, this.#handle)
        : createHttpsServer({ ...options, ...this.#tls, handshakeTimeout: handshakeTimeoutMs }, this.#handle)
    server.maxConnections = maxConnections
    server.on('connection', () => this.#acceptedCount++)
    server.on(this.#tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
    return server
  }
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

async function addressesOf(host: string): Promise<string[]> {
  if (host !== 'localhost') return [host]
  const found = await lookup(host, { all: true }).catch(() => [])
  return [...new Set(found.map(({ address }) => address))]
}

async function bind(server: Server, host: string, port: number): Promise<void> {
  server.listen({ host, port })
  try {
    await once(server, 'listening')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EADDRINUSE') throw new EmbedError('PORT_IN_USE', { host, port }, { cause: error })
    throw new EmbedError('LISTEN_FAILED', { host, port, reason: toReason(error) }, { cause: error })
  }
}

/** An address that a client on this machine can use. */
function toUrlHost({ address, family }: AddressInfo): string {
  if (address === '0.0.0.0') return '127.0.0.1'
  if (family !== 'IPv6') return address
  return address === '::' ? '[::1]' : `[${address}]`
}
