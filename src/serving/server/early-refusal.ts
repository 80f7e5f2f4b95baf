/** Refuses embedding requests while there is no room for any, before their bodies are read and parsed: under overload
 * most requests are refusals, and what they cost is taken from those that were accepted. */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { EmbedError } from '../../errors.ts'
import type { ServerContext } from './context.ts'
import { type Dialect, toErrorAnswer } from './error-handler.ts'
import type { RequestEndListener } from './request-end.ts'
import { chooseRequestId, requestIdHeader } from './request-log.ts'
import { bringsKey } from './security/access.ts'
import type { ApiKeys } from './security/api-keys.ts'
import { limitSending } from './send-timeout.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What it takes goes to the queue. */
    isEmbedding?: true
  }
}

export interface EarlyRefusalOptions {
  readonly keys: ApiKeys
  readonly onRequestEnd: readonly RequestEndListener[]
  /** Traces begin in a hook of Fastify. */
  readonly isTraced: boolean
}

/** Refuses in a hook of `app`, and already before Fastify what needs none of its other hooks.
 * @returns answers the request and says so, or leaves it to Fastify */
export function refuseEarly(
  app: FastifyInstance,
  context: ServerContext,
  { keys, onRequestEnd, isTraced }: EarlyRefusalOptions,
): (request: IncomingMessage, response: ServerResponse) => boolean {
  const dialectByPath = new Map<string, Dialect>()
  app.addHook('onRoute', ({ method, url, config }) => {
    if (method === 'POST' && config?.isEmbedding === true) dialectByPath.set(url, config.dialect!)
  })
  // Priority requests are measured by other bounds: the pipeline decides.
  const findRefusal = ({ 'x-priority': priority }: IncomingHttpHeaders): EmbedError | undefined =>
    priority === 'high' ? undefined : context.pipeline.refusal

  app.addHook('onRequest', (request, _reply, done) => {
    done(request.routeOptions.config.isEmbedding === true ? findRefusal(request.headers) : undefined)
  })

  const { corsOrigins } = context.config
  return (request, response) => {
    const { headers, method, url = '' } = request
    if (isTraced || method !== 'POST' || !context.isAccepting()) return false
    if (corsOrigins !== undefined && headers.origin !== undefined) return false
    const route = url.split('?', 1)[0]!
    const dialect = dialectByPath.get(route)
    if (dialect === undefined) return false
    const refusal = findRefusal(headers)
    if (refusal === undefined || (keys.count > 0 && !bringsKey(headers, keys))) return false

    const startMs = performance.now()
    const requestId = chooseRequestId(request)
    const answer = toErrorAnswer(refusal, dialect, requestId)
    const body = JSON.stringify(answer.body)
    response.writeHead(answer.status, {
      ...answer.headers,
      [requestIdHeader]: requestId,
      'content-type': 'application/json; charset=utf-8',
      'content-length': Buffer.byteLength(body),
    })
    response.end(body)
    // As a rule the kernel has it already.
    if (response.socket !== null && response.socket.writableLength > 0)
      limitSending(response, context.config.sendTimeoutMs)
    const ended = {
      method,
      get log() {
        return app.log.child({ requestId })
      },
    }
    const durationMs = performance.now() - startMs
    for (const listener of onRequestEnd)
      listener({ request: ended, route, status: answer.status, outcome: refusal.code, durationMs })
    return true
  }
}
