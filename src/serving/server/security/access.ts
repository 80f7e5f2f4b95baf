/** Who may use which route. Without a word of its own a route asks for a key. */
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { EmbedError } from '../../../errors.ts'
import type { ServerContext } from '../context.ts'
import type { ApiKeys } from './api-keys.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** 'open': everyone; 'docs' and 'metrics': as docsAccess and metricsAccess say; 'admin': from this machine, with a
     * key, nobody where no keys are set. */
    access?: 'open' | 'docs' | 'metrics' | 'admin'
  }
}

/** Refuses before the body is read. */
export function registerAccessControl(app: FastifyInstance, context: ServerContext, keys: ApiKeys): void {
  app.addHook('onRequest', (request, reply, done) => {
    // Nothing is served where there is no route; the answer is the same with and without a key.
    if (request.is404) return done()
    const access = accessOf(request, context)
    if (access === 'open' || (access === 'key' && keys.count === 0)) return done()
    if (access === 'off' || (access === 'admin' && (keys.count === 0 || !isFromThisMachine(request)))) {
      return done(
        new EmbedError('ROUTE_NOT_FOUND', { method: request.method, path: request.url.split('?')[0]! }),
      )
    }
    if (bringsKey(request.headers, keys)) return done()
    const isGiven = candidatesOf(request.headers).length > 0
    void reply.header(
      'www-authenticate',
      `Bearer realm="akidb-embedding"${isGiven ? ', error="invalid_token"' : ''}`,
    )
    done(new EmbedError('INVALID_API_KEY', { given: isGiven }))
  })
}

function accessOf(request: FastifyRequest, { config }: ServerContext): 'open' | 'key' | 'off' | 'admin' {
  const { access } = request.routeOptions.config
  if (access === 'open' || access === 'admin') return access
  if (access === 'docs') return config.docsAccess
  return access === 'metrics' ? config.metricsAccess : 'key'
}

/** Straight from a loopback address: what a proxy on this machine forwards comes from elsewhere. */
function isFromThisMachine({ socket, headers }: FastifyRequest): boolean {
  const isForwarded = ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip'].some(
    (name) => headers[name] !== undefined,
  )
  return !isForwarded && /^(?:::ffff:)?127\.|^::1$/.test(socket.remoteAddress ?? '')
}

/** One of the keys is there. */
export function bringsKey(headers: IncomingHttpHeaders, keys: ApiKeys): boolean {
  // No early exit: every candidate is compared with every key.
  return candidatesOf(headers).filter((candidate) => keys.includes(candidate)).length > 0
}

function candidatesOf(headers: IncomingHttpHeaders): string[] {
  const bearer = /^bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1]
  const own = headers['x-api-key']
  return [bearer, own].filter((candidate) => typeof candidate === 'string')
}
