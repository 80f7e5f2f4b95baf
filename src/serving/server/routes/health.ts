/** Liveness and readiness, for people, balancers and Kubernetes. */
import type { FastifyInstance } from 'fastify'
import type { ServerContext } from '../context.ts'

export function registerHealthRoutes(app: FastifyInstance, context: ServerContext): void {
  const schema = { tags: ['Health'] }
  const config = { dialect: 'tei' as const }
  // Alive is only alive: the process answers.
  app.get('/livez', { schema }, (_request, reply) => reply.send({ status: 'alive' }))
  app.get('/readyz', { schema, config }, (_request, reply) => {
    const isReady = context.isAccepting()
    return reply.status(isReady ? 200 : 503).send({ status: isReady ? 'ready' : 'stopping' })
  })
  // TEI's: the second is Hugging Face's Inference API, the third SageMaker.
  for (const path of ['/health', '/', '/ping']) {
    app.get(path, { schema, config }, (_request, reply) =>
      context.isAccepting()
        ? reply.send()
        : reply.status(503).send({ error: 'unhealthy', error_type: 'Unhealthy', code: 'SHUTTING_DOWN' }),
    )
  }
}
