import type { Config } from '../../config/schema.ts'
import type { EmbeddingPipeline } from '../pipeline/embedding-pipeline.ts'
import type { PipelineHost } from '../pipeline/pipeline-host.ts'
import type { StartupReport } from '../pipeline/start-pipeline.ts'

/** What every route may look at. A reload changes the first four: look at them while answering, not while registering. */
export interface ServerContext {
  readonly pipeline: EmbeddingPipeline
  readonly startup: StartupReport
  readonly config: Config
  /** Name given in answers. */
  readonly modelName: string
  readonly startedAtSeconds: number
  /** False once a stop was asked for. */
  readonly isAccepting: () => boolean
  /** Accepting, and the engine is fine. */
  readonly isReady: () => boolean
}

export function createContext(host: PipelineHost): ServerContext {
  return {
    get pipeline() {
      return host.current.pipeline
    },
    get startup() {
      return host.current.startup
    },
    get config() {
      return host.current.config
    },
    get modelName() {
      const { config, pipeline } = host.current
      return config.servedModelName ?? pipeline.spec.id
    },
    startedAtSeconds: Math.floor(Date.now() / 1000),
    isAccepting: () => host.isAccepting,
    isReady: () => host.isReady,
  }
}
