/** Liveness and readiness, for people, balancers and Kubernetes. */
import type { FastifyInstance } from 'fastify'
import type { ServerContext } from '../context.ts'

export function registerHealthRoutes(app: FastifyInstance, context: ServerContext): void {
  const schema = { tags: ['Health'] }
  const config = { dialect: 'tei', access: 'open' } as const
  // Alive is only alive: the process answers.
  app.get('/livez', { schema, config }, (_request, reply) => reply.send({ status: 'alive' }))
  app.get('/readyz', { schema, config }, (_request, reply) => {
    if (context.isReady()) return reply.send({ status: 'ready' })
    return reply.status(503).send({ status: context.isAccepting() ? 'unhealthy' : 'stopping' })
  })
  // TEI's: the second is Hugging Face's Inference API, the third SageMaker.
  for (const path of ['/health', '/', '/ping']) {
    app.get(path, { schema, config }, (_request, reply) =>
      context.isReady()
        ? reply.send()
        : reply.status(503).send({
            error: 'unhealthy',
            error_type: 'Unhealthy',
            code: context.isAccepting() ? 'ENGINE_UNAVAILABLE' : 'SHUTTING_DOWN',
          }),
    )
  }
}
