/** Liveness and readiness, for people, balancers and Kubernetes. */
import type { FastifyInstance } from 'fastify'
import type { ServerContext } from '../context.ts'

export function registerHealthRoutes(app: FastifyInstance, context: ServerContext): void {
  const schema = { tags: ['Health'] }
  // Alive is only alive: the process answers.
  app.get('/livez', { schema }, (_request, reply) => reply.send({ status: 'alive' }))
  for (const path of ['/readyz', '/health']) {
    app.get(path, { schema, config: { dialect: 'tei' } }, (_request, reply) => {
      const isReady = context.isAccepting()
      return reply.status(isReady ? 200 : 503).send({ status: isReady ? 'ready' : 'stopping' })
    })
  }
}
