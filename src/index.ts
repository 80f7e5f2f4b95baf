/** The library surface. Importing it starts nothing. */
import { homedir } from 'node:os'
import { loadConfig } from './config/load.ts'
import type { Config } from './config/schema.ts'
import { defaultCacheDir } from './model/cache-dir.ts'
import type { EmbeddingInput } from './serving/pipeline/embedding-pipeline.ts'
import { type StartupReport, startPipeline } from './serving/pipeline/start-pipeline.ts'
import type { Truncation } from './serving/tokenizer/tokenizer.ts'

export { EmbedError, type ErrorCode } from './errors.ts'
export type { Config } from './config/schema.ts'
export type { EmbeddingInput } from './serving/pipeline/embedding-pipeline.ts'

export interface EmbedderOptions {
  /** Name of one of the model's prompts, e.g. 'query'. */
  readonly promptName?: string
  /** Cut the vectors to this many values and normalise them again. */
  readonly dimensions?: number
  /** L2-normalise. Default true. */
  readonly normalize?: boolean
  /** What happens to a text over the model's length. Default 'right': its end is dropped. */
  readonly truncation?: Truncation
  readonly signal?: AbortSignal
}

export interface Embedder extends AsyncDisposable {
  /** Length of the vectors. */
  readonly dimensions: number
  /** Longest input in tokens. */
  readonly maxTokens: number
  /** What runs the model, e.g. { name: 'openvino', precision: 'bf16', … }. */
  readonly engine: { readonly name: string; readonly device: string; readonly precision: string }
  readonly startup: StartupReport
  /** One f32 vector [dimensions] an input, in order; calls may overlap and share batches.
   * @throws {EmbedError} EMPTY_INPUT, INVALID_DIMENSIONS, UNKNOWN_PROMPT, INPUT_TOO_LONG, QUEUE_FULL, … */
  embed(inputs: readonly EmbeddingInput[], options?: EmbedderOptions): Promise<readonly Float32Array[]>
}

/** Loads a model (fetching it when needed) and checks it against its golden vectors.
 * @param config any of the keys in docs/configuration.md; the rest are defaults. The environment is not read.
 * @throws {EmbedError} CONFIG_INVALID, MODEL_NOT_FOUND, NO_ENGINE, … */
export async function createEmbedder(config: Partial<Config> = {}): Promise<Embedder> {
  const complete = loadConfig({ flags: config })
  const { pipeline, startup } = await startPipeline(complete, {
    cacheDir: complete.cacheDir ?? defaultCacheDir({}, homedir()),
  })
  const { name, device, precision } = pipeline.engine.info
  return {
    dimensions: pipeline.spec.dimensions,
    maxTokens: pipeline.spec.maxTokens,
    engine: { name, device, precision },
    startup,
    async embed(inputs, options = {}) {
      const { vectors } = await pipeline.embed({ inputs, truncation: 'right', ...options })
      return vectors
    },
    [Symbol.asyncDispose]: () => pipeline[Symbol.asyncDispose](),
  }
}
