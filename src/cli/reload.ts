/** What SIGHUP does to a server: configuration, keys, certificate and model anew, while requests go on. */
import { keepFixed } from '../config/keep-fixed.ts'
import { makesSamePipeline } from '../config/pipeline-config.ts'
import type { Config } from '../config/schema.ts'
import { toReason } from '../errors.ts'
import type { PipelineHost, ServedPipeline } from '../serving/pipeline/pipeline-host.ts'
import type { Server } from '../serving/server/create-server.ts'

export interface ReloadParts {
  readonly host: PipelineHost
  readonly server: Server
  /** Reads the configuration again. */
  readonly loadConfig: () => Config
  readonly start: (config: Config) => Promise<ServedPipeline>
  /** Whether the model's files are still those that the pipeline was made from. */
  readonly hasSameModel: (served: ServedPipeline, config: Config) => Promise<boolean>
  readonly onReloaded: (served: ServedPipeline, change: 'model' | 'configuration') => void
  /** A reload that a stop overtakes is no failure. */
  readonly signal: AbortSignal
}

/** @returns asks for a reload: while one runs, all that ask share the next one; never rejects */
export function createReloader(parts: ReloadParts): () => Promise<void> {
  let isAsked = false
  let running: Promise<void> | undefined
  const run = async (): Promise<void> => {
    while (isAsked && !parts.signal.aborted) {
      isAsked = false
      await reload(parts)
    }
    running = undefined
  }
  return () => {
    isAsked = true
    running ??= run()
    return running
  }
}

/** Each part that fails stays as it was, and the log says why. */
async function reload(parts: ReloadParts): Promise<void> {
  const { host, server, loadConfig, start, onReloaded, signal } = parts
  const { log } = server.app
  let config: Config
  try {
    const { config: next, kept } = keepFixed(host.current.config, loadConfig())
    config = next
    if (kept.length > 0) log.warn({ kept }, `a reload cannot change ${kept.join(', ')}; restart for that`)
  } catch (error) {
    log.error({ err: error }, `nothing was reloaded: ${toReason(error)}`)
    return
  }
  await server.reload(config)
  try {
    // Beside the one that goes on, a new pipeline would need the memory of a second model.
    if (await canGoOn(parts, config)) {
      host.reconfigure(config)
      onReloaded(host.current, 'configuration')
      return
    }
    await host.reload(() => start(config))
    onReloaded(host.current, 'model')
  } catch (error) {
    if (signal.aborted) return
    log.error({ err: error }, `the model was not reloaded, the one before goes on: ${toReason(error)}`)
  }
}

async function canGoOn({ host, hasSameModel }: ReloadParts, config: Config): Promise<boolean> {
  const { current } = host
  return (
    current.pipeline.isHealthy &&
    makesSamePipeline(current.config, config) &&
    (await hasSameModel(current, config))
  )
}
