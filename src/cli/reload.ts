/** What SIGHUP does to a server: configuration, keys, certificate and model anew, while requests go on. */
import { keepFixed } from '../config/keep-fixed.ts'
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
  readonly onReloaded: (served: ServedPipeline) => void
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
async function reload({ host, server, loadConfig, start, onReloaded, signal }: ReloadParts): Promise<void> {
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
    await host.reload(() => start(config))
    onReloaded(host.current)
  } catch (error) {
    if (signal.aborted) return
    log.error({ err: error }, `the model was not reloaded, the one before goes on: ${toReason(error)}`)
  }
}
