/** GET /info in TEI's shape, and the description of the API where TEI has it. */
import type { FastifyInstance } from 'fastify'
import type { ServerContext } from '../context.ts'

export function registerTeiInfoRoutes(app: FastifyInstance, context: ServerContext): void {
  const config = { dialect: 'tei' as const }
  app.get('/info', { schema: { tags: ['TEI'] }, config }, () => toInfo(context))
  app.get('/api-doc/openapi.json', { schema: { hide: true }, config: { ...config, access: 'docs' } }, () =>
    app.swagger(),
  )
}

/** TEI's fields first, then what is ours. */
function toInfo({ config, modelName, pipeline, startup }: ServerContext): object {
  const { spec, engine } = pipeline
  const { name, device, precision, runtimeVersion, memoryBytes } = engine.info
  return {
    model_id: spec.id,
    model_sha: startup.modelSource === 'hub' ? (startup.revision ?? null) : null,
    model_dtype: precision === 'fp32' ? 'float32' : precision === 'bf16' ? 'bfloat16' : precision,
    served_model_name: modelName,
    model_type: { embedding: { pooling: spec.pooling } },
    max_concurrent_requests: config.maxQueuedRequests,
    max_input_length: spec.maxTokens,
    max_batch_tokens: config.maxBatchTokens,
    max_batch_requests: config.maxBatchSize,
    max_client_batch_size: config.maxInputs,
    auto_truncate: config.truncation !== 'none',
    tokenization_workers: config.tokenizerWorkers,
    version: startup.version,
    // Of TEI's build; there is none.
    sha: null,
    docker_label: null,
    dimensions: spec.dimensions,
    prompts: Object.keys(spec.prompts),
    engine: {
      name,
      device,
      precision,
      runtime_version: runtimeVersion,
      memory_bytes: Math.round(memoryBytes),
    },
    golden: {
      source: startup.golden.source,
      made_by: startup.golden.madeBy ?? null,
      worst_cosine: startup.golden.worstCosine ?? null,
    },
    model_hash: spec.contentHash,
    notes: startup.notes,
  }
}
