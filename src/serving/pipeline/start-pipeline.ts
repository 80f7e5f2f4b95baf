/** From a configuration to a pipeline that has proved itself: model, tokenizer, engine, golden check. */
import { readFileSync } from 'node:fs'
import type { PipelineConfig } from '../../config/pipeline-config.ts'
import type { PlanProgress } from '../../engines/tensorrt/ensure-plans.ts'
import type { CudaSearchOptions } from '../../hardware/machine/cuda-libraries.ts'
import { createTokenizer } from '../tokenizer/worker-tokenizer.ts'
import { type ModelSpec, loadModelSpec } from '../../model/spec.ts'
import { type PullProgress, type PulledModel, pullModel } from '../../model/pull.ts'
import { EmbeddingPipeline } from './embedding-pipeline.ts'
import { withDefaultPrompt } from './prompt.ts'
import { type StartedEngine, startEngine } from './start-engine.ts'

export interface StartupReport {
  /** Of this package. */
  readonly version: string
  readonly modelSource: 'folder' | 'cache' | 'hub' | 'pypi'
  /** Commit of the model on the hub, where it is known. */
  readonly revision: string | undefined
  readonly golden: StartedEngine['golden']
  /** Why the engines and precisions before the chosen one did not start. */
  readonly notes: readonly string[]
  readonly durationMs: number
}

export interface StartOptions {
  readonly cacheDir: string
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: PullProgress) => void) | undefined
  /** Of engines that this start builds (buildEngines). */
  readonly onBuildProgress?: ((progress: PlanProgress) => void) | undefined
  /** CPU engines measure each node of their graph, with one stream: for a profile, not for serving. */
  readonly profileNodes?: boolean | undefined
  /** Where NVIDIA's libraries may be beside the system's folders. */
  readonly cudaSearch?: CudaSearchOptions | undefined
  /** Longest text, where the model and the engine take a longer one. */
  readonly maxTokens?: number | undefined
}

/** The caller disposes the pipeline.
 * @throws {EmbedError} MODEL_NOT_FOUND, OFFLINE, MODEL_FILE_MISSING, MODEL_FILE_CORRUPT, MODEL_CONFIG_INVALID,
 * ARCHITECTURE_UNSUPPORTED, NO_ENGINE, NO_SPACE, … */
export async function startPipeline(
  config: PipelineConfig,
  options: StartOptions,
): Promise<{ pipeline: EmbeddingPipeline; startup: StartupReport }> {
  const startMs = performance.now()
  const { model, spec } = await loadModel(config, options)
  const tokenizer = await createTokenizer({
    tokenizerPath: spec.files.tokenizer,
    workerCount: config.tokenizerWorkers,
    maxTextChars: config.maxTextChars,
  })
  try {
    const { engine, createHigherPrecision, golden, notes } = await startEngine(
      spec,
      tokenizer,
      config,
      options,
    )
    const limits = { ...config, concurrency: engine.info.concurrency }
    // What the engine was built for may be shorter than what the model takes: said at admission, not in a batch.
    const { maxTokens = Infinity } = options
    const served = { ...spec, maxTokens: Math.min(spec.maxTokens, engine.info.maxTokens, maxTokens) }
    return {
      pipeline: new EmbeddingPipeline({ spec: served, tokenizer, engine, createHigherPrecision }, limits),
      startup: {
        version: packageVersion,
        modelSource: model.source,
        revision: model.revision,
        golden,
        notes,
        durationMs: performance.now() - startMs,
      },
    }
  } catch (error) {
    await tokenizer[Symbol.asyncDispose]()
    throw error
  }
}

/** Whether the files of the model are still those that the pipeline was made from.
 * @throws {EmbedError} as startPipeline */
export async function hasSameModel(
  { pipeline, startup }: { readonly pipeline: EmbeddingPipeline; readonly startup: StartupReport },
  config: PipelineConfig,
  options: StartOptions,
): Promise<boolean> {
  const { model, spec } = await loadModel(config, options)
  return model.revision === startup.revision && spec.contentHash === pipeline.spec.contentHash
}

async function loadModel(
  config: PipelineConfig,
  { cacheDir, signal, onProgress }: StartOptions,
): Promise<{ model: PulledModel; spec: ModelSpec }> {
  const model = await pullModel(config.model, {
    cacheDir,
    offline: config.offline,
    revision: config.revision,
    token: config.hfToken,
    endpoint: config.hfEndpoint,
    signal,
    onProgress,
  })
  const spec = await loadModelSpec(model.folder, { id: model.id, cacheDir })
  return { model, spec: withDefaultPrompt(spec, config) }
}

const packageVersion = (
  JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }
).version
