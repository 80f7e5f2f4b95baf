import type { Config } from '../../config/schema.ts'
import type { EmbeddingPipeline } from '../pipeline/embedding-pipeline.ts'
import type { StartupReport } from '../pipeline/start-pipeline.ts'

/** What every route may look at. */
export interface ServerContext {
  readonly pipeline: EmbeddingPipeline
  readonly startup: StartupReport
  readonly config: Config
  /** Name given in answers. */
  readonly modelName: string
  readonly startedAtSeconds: number
  /** False once a stop was asked for. */
  readonly isAccepting: () => boolean
}
