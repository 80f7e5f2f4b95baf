/** GET /metrics for Prometheus, GET /stats for people and scripts. */
import type { FastifyInstance } from 'fastify'
import type { ServerMetrics } from '../prometheus.ts'

export function registerMetricsRoutes(app: FastifyInstance, metrics: ServerMetrics): void {
  const options = { schema: { tags: ['Metrics'] }, config: { access: 'metrics' } } as const
  app.get('/metrics', options, async (_request, reply) =>
    reply.type(metrics.contentType).send(await metrics.expose()),
  )
  app.get('/stats', options, () => metrics.readStats())
}
