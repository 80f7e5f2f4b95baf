/** GET /metrics for Prometheus, GET /stats for people and scripts. */
import type { FastifyInstance } from 'fastify'
import type { ServerMetrics } from '../prometheus.ts'

export function registerMetricsRoutes(app: FastifyInstance, metrics: ServerMetrics): void {
  const schema = { tags: ['Metrics'] }
  app.get('/metrics', { schema }, async (_request, reply) =>
    reply.type(metrics.contentType).send(await metrics.expose()),
  )
  app.get('/stats', { schema }, () => metrics.readStats())
}
