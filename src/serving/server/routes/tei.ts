/** POST /embed and GET /info in the shapes of text-embeddings-inference. */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { appendFloat32Array } from '../../../float32-text.ts'
import { inputsSchema, optional, toInputList } from '../body-schema.ts'
import type { ServerContext } from '../context.ts'
import { embedForRequest, setTruncationHeaders } from '../embed-request.ts'

const embedSchema = Type.Object(
  {
    inputs: inputsSchema,
    truncate: optional(Type.Boolean(), 'true to cut texts that are too long, false to refuse them'),
    truncation_direction: optional(
      Type.Enum(['Right', 'Left', 'right', 'left']),
      "'Right' to drop the end of a long text, 'Left' to drop its beginning",
    ),
    prompt_name: optional(Type.String(), "the name of one of the model's prompts"),
    normalize: optional(Type.Boolean(), 'true or false'),
    dimensions: optional(Type.Integer(), 'a whole number: the length of the vectors'),
  },
  { description: 'Embeds one or more inputs.' },
)

export function registerTeiRoutes(app: FastifyInstance, context: ServerContext): void {
  const options = { schema: { body: embedSchema, tags: ['TEI'] }, config: { dialect: 'tei' as const } }
  app.post<{ Body: Static<typeof embedSchema> }>('/embed', options, async (request, reply) => {
    const startMs = performance.now()
    const { body } = request
    const inputs = toInputList(body.inputs)
    const result = await embedForRequest(context, reply, {
      inputs,
      promptName: body.prompt_name,
      truncate: body.truncate,
      truncationDirection: body.truncation_direction,
      dialectTruncation: 'right',
      normalize: body.normalize,
      dimensions: body.dimensions,
    })
    setTruncationHeaders(reply, result)
    const totalMs = String(Math.round(performance.now() - startMs))
    const characters = inputs.reduce((sum, input) => sum + input.length, 0)
    return reply
      .headers({
        'x-compute-type': 'cpu',
        'x-compute-time': totalMs,
        'x-compute-characters': String(characters),
        'x-compute-tokens': String(result.tokens),
        'x-total-time': totalMs,
        'x-tokenization-time': String(Math.round(result.tokenizeMs)),
        'x-queue-time': String(Math.round(result.queueMs)),
        'x-inference-time': String(Math.round(result.inferenceMs)),
      })
      .type('application/json')
      .send(`[${result.vectors.map((vector) => appendFloat32Array(vector, 0, vector.length)).join(',')}]`)
  })

  app.get('/info', { schema: { tags: ['TEI'] }, config: { dialect: 'tei' } }, () => toInfo(context))
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
      made_by: startup.golden.madeBy,
      worst_cosine: startup.golden.worstCosine,
    },
    model_hash: spec.contentHash,
    notes: startup.notes,
  }
}
