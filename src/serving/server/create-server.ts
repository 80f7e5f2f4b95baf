/** The HTTP application: dialects in, vectors out. It knows the pipeline and nothing of engines. */
import fastifySwagger from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import fastify, { type FastifyInstance, type HTTPMethods } from 'fastify'
import type { Config } from '../../config/schema.ts'
import { EmbedError } from '../../errors.ts'
import type { MetricSource } from '../../telemetry/metric-source.ts'
import type { PipelineHost } from '../pipeline/pipeline-host.ts'
import { compileBodyValidator } from './body-schema.ts'
import { createContext } from './context.ts'
import { drain } from './drain.ts'
import { logEngineState } from './engine-log.ts'
import { refuseEarly } from './early-refusal.ts'
import { handleError } from './error-handler.ts'
import { parseJsonBodies } from './json-body.ts'
import { Listener } from './listener.ts'
import { observeRequestEnds } from './request-end.ts'
import { RequestLogController, chooseRequestId, tellRequestId, writeAccessLog } from './request-log.ts'
import { registerCohereRoutes } from './routes/cohere.ts'
import { registerHealthRoutes } from './routes/health.ts'
import { registerMetricsRoutes } from './routes/metrics.ts'
import { registerOllamaRoutes } from './routes/ollama.ts'
import { registerOpenaiRoutes } from './routes/openai.ts'
import { registerTeiInfoRoutes } from './routes/tei-info.ts'
import { registerTeiOtherTaskRoutes } from './routes/tei-other-tasks.ts'
import { registerTeiTokenizerRoutes } from './routes/tei-tokenizer.ts'
import { registerTeiRoutes } from './routes/tei.ts'
import { registerAccessControl } from './security/access.ts'
import { registerCors } from './security/cors.ts'
import { Credentials } from './security/credentials.ts'
import { limitSending } from './send-timeout.ts'
import { trackRequests } from './track-requests.ts'

export interface Server extends AsyncDisposable {
  readonly app: FastifyInstance
  /** @returns the URL that was bound @throws {EmbedError} PORT_IN_USE, LISTEN_FAILED */
  listen(): Promise<string>
  /** Takes over keys and certificate as the configuration names them now; the log tells what could not be read. */
  reload(config: Config): Promise<void>
  /** Not ready from now on; answers what was accepted, then closes. The host stays open.
   * @returns how many requests were refused because they were still under way after drainTimeoutMs */
  close(): Promise<number>
}

/** Adds routes from outside, with the server's own access rules and answers to errors. */
export type ServerPlugin = (app: FastifyInstance) => void

export interface ServerOptions {
  /** Borrowed: whoever made it disposes it. */
  readonly host: PipelineHost
  /** Shown in /metrics beside the server's own. */
  readonly metricSources?: readonly MetricSource[]
  readonly plugins?: readonly ServerPlugin[]
  /** Where log lines go. Default stderr. */
  readonly logStream?: { write(line: string): void }
  /** How often changes of the key file and the certificate are looked for. Default 2000. */
  readonly filePollMs?: number
}

/** @throws {EmbedError} API_KEYS_INVALID, TLS_INVALID, FILE_UNREADABLE, CONFIG_INVALID */
export async function createServer(options: ServerOptions): Promise<Server> {
  const { host, filePollMs = 2000 } = options
  const { config, startup } = host.current
  const context = createContext(host)
  const credentials = await Credentials.load(config)
  let listener!: Listener
  let refuses: ReturnType<typeof refuseEarly> | undefined
  const app = fastify({
    // stdout is for people; logs go where a supervisor expects them.
    logger:
      config.logLevel === 'silent'
        ? false
        : { level: config.logLevel, stream: options.logStream ?? process.stderr },
    logController: new RequestLogController(),
    genReqId: chooseRequestId,
    // A path that cannot be decoded meets no hook.
    frameworkErrors: (error, request, reply) => {
      tellRequestId(request, reply)
      handleError(error, request, reply)
    },
    bodyLimit: config.maxBodyBytes,
    exposeHeadRoutes: true,
    serverFactory: (handle) => {
      listener = new Listener(config, credentials.tls, (request, response) => {
        if (refuses?.(request, response) !== true) handle(request, response)
      })
      return listener.main
    },
  })
  const inFlight = trackRequests(app, host)
  app.addHook('onRequest', (request, reply, done) => {
    tellRequestId(request, reply)
    done()
  })
  logEngineState(app, context)
  const tracing =
    config.otlpEndpoint === undefined
      ? undefined
      : (await import('./tracing/tracing.ts')).startTracing(app, config, startup.version)
  const metrics = config.metrics
    ? (await import('./prometheus.ts')).createServerMetrics(context, options.metricSources)
    : undefined
  app.addHook('onClose', async () => metrics?.[Symbol.dispose]())
  const onRequestEnd = [
    ...(metrics === undefined ? [] : [metrics.onRequestEnd]),
    ...(config.accessLog ? [writeAccessLog] : []),
    ...(tracing === undefined ? [] : [tracing.onRequestEnd]),
  ]
  observeRequestEnds(app, onRequestEnd)
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
  app.addHook('onSend', (_request, reply, _payload, done) => {
    // A connection that stays open after its last answer would keep the drain waiting.
    if (!host.isAccepting) void reply.header('connection', 'close')
    limitSending(reply.raw, context.config.sendTimeoutMs)
    done()
  })
  // Before the access control: a browser asks beforehand, and without a key.
  await registerCors(app, config.corsOrigins)
  registerAccessControl(app, context, credentials.keys)
  refuses = refuseEarly(app, context, {
    keys: credentials.keys,
    onRequestEnd,
    isTraced: tracing !== undefined,
  })

  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'akidb-embedding', description: 'Text embeddings', version: startup.version },
    },
  })
  await app.register(async (docs) => {
    docs.addHook('onRoute', (route) => {
      route.config = { ...route.config, access: 'docs' }
    })
    await docs.register(fastifySwaggerUi, { routePrefix: '/docs' })
  })
  await app.register((routes) => {
    registerOpenaiRoutes(routes, context)
    registerTeiRoutes(routes, context)
    registerTeiTokenizerRoutes(routes, context)
    registerTeiOtherTaskRoutes(routes, context)
    registerTeiInfoRoutes(routes, context)
    registerCohereRoutes(routes, context)
    registerHealthRoutes(routes, context)
    if (metrics !== undefined) registerMetricsRoutes(routes, metrics)
    for (const addRoutes of options.plugins ?? []) addRoutes(routes)
    return Promise.resolve()
  })
  // A scope of its own: it takes bodies of every content type.
  await app.register((routes) => registerOllamaRoutes(routes, context))
  await app.ready()
  credentials.watch({ intervalMs: filePollMs, onTls: (files) => listener.setTls(files), log: app.log })

  const stop = async (): Promise<number> => {
    host.stopAccepting()
    const unanswered = await drain(listener, inFlight, host.current.config)
    listener.closeAll()
    credentials[Symbol.dispose]()
    await app.close()
    return unanswered
  }
  let stopped: Promise<number> | undefined
  const close = (): Promise<number> => (stopped ??= stop())
  return {
    app,
    async listen() {
      const url = await listener.listen(config.host, config.port)
      if (!listener.isLoopback && credentials.keys.count === 0) {
        const message = `anyone who reaches ${config.host} may use this server: set apiKey or apiKeysFile, or listen on 127.0.0.1`
        app.log.warn({ host: config.host }, message)
      }
      return url
    },
    reload: (changed) => credentials.reload(changed),
    close,
    async [Symbol.asyncDispose]() {
      await close()
    },
  }
}
