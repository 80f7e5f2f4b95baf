/** The HTTP application: dialects in, vectors out. It knows the pipeline and nothing of engines. */
import fastifySwagger from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import fastify, { type FastifyInstance, type HTTPMethods } from 'fastify'
import type { Config } from '../../config/schema.ts'
import { EmbedError } from '../../errors.ts'
import type { MetricSource } from '../../telemetry/metric-source.ts'
import type { EmbeddingPipeline } from '../pipeline/embedding-pipeline.ts'
import type { StartupReport } from '../pipeline/start-pipeline.ts'
import { compileBodyValidator } from './body-schema.ts'
import type { ServerContext } from './context.ts'
import { handleError } from './error-handler.ts'
import { parseJsonBodies } from './json-body.ts'
import { type ServerMetrics, createServerMetrics } from './prometheus.ts'
import { type RequestEndListener, observeRequestEnds } from './request-end.ts'
import { RequestLogController, chooseRequestId, tellRequestIds, writeAccessLog } from './request-log.ts'
import { registerCohereRoutes } from './routes/cohere.ts'
import { registerHealthRoutes } from './routes/health.ts'
import { registerMetricsRoutes } from './routes/metrics.ts'
import { registerOllamaRoutes } from './routes/ollama.ts'
import { registerOpenaiRoutes } from './routes/openai.ts'
import { registerTeiInfoRoutes } from './routes/tei-info.ts'
import { registerTeiOtherTaskRoutes } from './routes/tei-other-tasks.ts'
import { registerTeiTokenizerRoutes } from './routes/tei-tokenizer.ts'
import { registerTeiRoutes } from './routes/tei.ts'

export interface Server extends AsyncDisposable {
  readonly app: FastifyInstance
  /** @returns the URL that was bound @throws {EmbedError} PORT_IN_USE */
  listen(): Promise<string>
  /** Not ready from now on; answers what was accepted, then closes. The pipeline stays open. */
  close(): Promise<void>
}

export interface ServerOptions {
  readonly pipeline: EmbeddingPipeline
  readonly startup: StartupReport
  readonly config: Config
  /** Shown in /metrics beside the server's own. */
  readonly metricSources?: readonly MetricSource[]
  /** Where log lines go. Default stderr. */
  readonly logStream?: { write(line: string): void }
}

/** The server borrows the pipeline; whoever made it disposes it. */
export async function createServer(options: ServerOptions): Promise<Server> {
  const { config, pipeline, startup } = options
  let accepting = true
  const context: ServerContext = {
    pipeline,
    startup,
    config,
    modelName: config.servedModelName ?? pipeline.spec.id,
    startedAtSeconds: Math.floor(Date.now() / 1000),
    isAccepting: () => accepting,
  }
  const app = fastify({
    // stdout is for people; logs go where a supervisor expects them.
    logger:
      config.logLevel === 'silent'
        ? false
        : { level: config.logLevel, stream: options.logStream ?? process.stderr },
    logController: new RequestLogController(),
    genReqId: chooseRequestId,
    bodyLimit: config.maxBodyBytes,
    forceCloseConnections: 'idle',
    exposeHeadRoutes: true,
  })
  tellRequestIds(app)
  const metrics = config.metrics ? createServerMetrics(context, options.metricSources) : undefined
  app.addHook('onClose', async () => metrics?.[Symbol.dispose]())
  observeRequestEnds(app, listRequestEndListeners(config, metrics))
  app.setErrorHandler(handleError)
  app.setValidatorCompiler(compileBodyValidator)
  app.setNotFoundHandler((request) => {
    const path = request.url.split('?')[0]!
    const methods: HTTPMethods[] = ['GET', 'HEAD', 'POST']
    const allowed = methods.filter((method) => app.findRoute({ method, url: path }) !== null)
    if (allowed.length === 0) throw new EmbedError('ROUTE_NOT_FOUND', { method: request.method, path })
    throw new EmbedError('METHOD_NOT_ALLOWED', { method: request.method, path, allowed })
  })
  parseJsonBodies(app, 'application/json')
  // A connection that stays open after its last answer would keep close() waiting for the keep-alive timeout.
  app.addHook('onSend', async (_request, reply) => {
    if (!accepting) void reply.header('connection', 'close')
  })

  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'akidb-embedding', description: 'Text embeddings', version: startup.version },
    },
  })
  await app.register(fastifySwaggerUi, { routePrefix: '/docs' })
  await app.register((routes) => {
    registerOpenaiRoutes(routes, context)
    registerTeiRoutes(routes, context)
    registerTeiTokenizerRoutes(routes, context)
    registerTeiOtherTaskRoutes(routes, context)
    registerTeiInfoRoutes(routes, context)
    registerCohereRoutes(routes, context)
    registerHealthRoutes(routes, context)
    if (metrics !== undefined) registerMetricsRoutes(routes, metrics)
    return Promise.resolve()
  })
  // A scope of its own: it takes bodies of every content type.
  await app.register((routes) => registerOllamaRoutes(routes, context))

  const close = async (): Promise<void> => {
    accepting = false
    await app.close()
  }
  return {
    app,
    async listen() {
      try {
        return await app.listen({ host: config.host, port: config.port })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
        throw new EmbedError('PORT_IN_USE', { host: config.host, port: config.port }, { cause: error })
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}

function listRequestEndListeners(config: Config, metrics: ServerMetrics | undefined): RequestEndListener[] {
  const listeners: RequestEndListener[] = []
  if (metrics !== undefined) listeners.push((end) => metrics.onRequestEnd(end))
  if (config.accessLog) listeners.push(writeAccessLog)
  return listeners
}
