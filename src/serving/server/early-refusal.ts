/** Refuses embedding requests while there is no room for any, before their bodies are read and parsed: under overload
 * most requests are refusals, and what they cost is taken from those that were accepted. */
import type { FastifyInstance } from 'fastify'
import type { ServerContext } from './context.ts'

/** Where a body goes to the queue. */
const embeddingRoutes: ReadonlySet<string | undefined> = new Set([
  '/v1/embeddings',
  '/embeddings',
  '/',
  '/embed',
  '/embed_all',
  '/similarity',
  '/invocations',
  '/vertex',
  '/v2/embed',
  '/api/embed',
  '/api/embeddings',
])

export function refuseEarly(app: FastifyInstance, context: ServerContext): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const { method, routeOptions, headers } = request
    // Priority requests are measured by other bounds: the pipeline decides.
    const isAsked =
      method === 'POST' && headers['x-priority'] !== 'high' && embeddingRoutes.has(routeOptions.url)
    done(isAsked ? context.pipeline.refusal : undefined)
  })
}
