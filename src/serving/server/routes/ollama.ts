/** Ollama's embedding routes, and what its clients ask of a server before they use them.
 * @see github.com/ollama/ollama/blob/main/docs/api.md */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { EmbedError } from '../../../errors.ts'
import { appendFloat32Array } from '../../../float32-text.ts'
import { optional, sharedFields } from '../body-schema.ts'
import type { ServerContext } from '../context.ts'
import { checkModel, embedForRequest } from '../embed-request.ts'
import { parseJsonBodies } from '../json-body.ts'

const model = optional(Type.String(), 'the name of the model')

const embedSchema = Type.Object(
  {
    model,
    input: optional(Type.Union([Type.String(), Type.Array(Type.String())]), 'a text or a list of texts'),
    truncate: sharedFields.truncate,
    dimensions: sharedFields.dimensions,
  },
  { description: 'Embeds one or more texts. keep_alive and options are not used.' },
)

const legacySchema = Type.Object(
  { model, prompt: optional(Type.String(), 'a text') },
  { description: 'Embeds one text; the vector is not normalised. Ollama calls it superseded by /api/embed.' },
)

const showSchema = Type.Object({ model, name: model }, { description: 'Tells of the served model.' })

export async function registerOllamaRoutes(app: FastifyInstance, context: ServerContext): Promise<void> {
  parseJsonBodies(app, '*')
  app.addHook('preParsing', (request, _reply, _body, done) => {
    const { 'content-type': contentType, origin } = request.headers
    if (request.method !== 'POST' || isTaken(contentType, origin !== undefined)) done()
    else done(new EmbedError('UNSUPPORTED_MEDIA_TYPE', { mediaType: contentType ?? 'none' }))
  })
  const config = { dialect: 'ollama' as const }
  const embeddingConfig = { ...config, isEmbedding: true } as const
  const tags = ['Ollama']

  app.post<{ Body: Static<typeof embedSchema> }>(
    '/api/embed',
    { schema: { body: embedSchema, tags }, config: embeddingConfig },
    async (request, reply) => {
      const startMs = performance.now()
      const { body } = request
      checkOllamaModel(context, body.model)
      // Nothing to embed asks to load the model, which is loaded.
      const inputs = typeof body.input === 'string' ? [body.input] : (body.input ?? [])
      const isLoad = inputs.length === 0 || body.input === ''
      const { vectors, tokens } = isLoad
        ? { vectors: [], tokens: 0 }
        : await embedForRequest(context, reply, {
            inputs,
            truncate: body.truncate,
            dialectTruncation: 'right',
            dimensions: body.dimensions,
          })
      const list = vectors.map((vector) => appendFloat32Array(vector, 0, vector.length)).join(',')
      const totalNs = Math.round((performance.now() - startMs) * 1e6)
      return reply
        .type('application/json')
        .send(
          `{"model":${JSON.stringify(context.modelName)},"embeddings":[${list}],` +
            `"total_duration":${totalNs},"load_duration":0,"prompt_eval_count":${tokens}}`,
        )
    },
  )

  app.post<{ Body: Static<typeof legacySchema> }>(
    '/api/embeddings',
    { schema: { body: legacySchema, tags }, config: embeddingConfig },
    async (request, reply) => {
      const { body } = request
      checkOllamaModel(context, body.model)
      const prompt = body.prompt ?? ''
      if (prompt === '') return { embedding: [] }
      const { vectors } = await embedForRequest(context, reply, {
        inputs: [prompt],
        dialectTruncation: 'right',
        normalize: false,
      })
      return reply.type('application/json').send(`{"embedding":${appendFloat32Array(vectors[0]!)}}`)
    },
  )

  app.get('/api/version', { schema: { tags }, config }, () => ({ version: context.startup.version }))
  app.get('/api/tags', { schema: { tags }, config }, () => ({ models: [toListed(context)] }))
  app.post<{ Body: Static<typeof showSchema> }>(
    '/api/show',
    { schema: { body: showSchema, tags }, config },
    (request) => {
      checkOllamaModel(context, request.body.model ?? request.body.name)
      return toShown(context)
    },
  )
}

/** Its documentation shows `curl -d` without a content type, which curl calls a form. A page of another origin may send
 * forms and bodies without a type to whom it likes, JSON only where CORS lets it. */
function isTaken(contentType: string | undefined, isFromPage: boolean): boolean {
  const mediaType = contentType?.split(';', 1)[0]!.trim().toLowerCase()
  if (mediaType === 'application/json') return true
  return !isFromPage && (mediaType === undefined || mediaType === 'application/x-www-form-urlencoded')
}

/** Ollama's clients add ':latest' to a name without a tag. */
function checkOllamaModel(context: ServerContext, name: string | null | undefined): void {
  checkModel(context, name?.replace(/:latest$/, ''))
}

function toListed(context: ServerContext): object {
  const { modelName, pipeline } = context
  return {
    name: modelName,
    model: modelName,
    modified_at: startedAt(context),
    size: Math.round(pipeline.engine.info.memoryBytes),
    digest: pipeline.spec.contentHash,
    details: toDetails(context),
  }
}

function toShown(context: ServerContext): object {
  const { architecture, dimensions, layerCount, maxTokens } = context.pipeline.spec
  return {
    details: toDetails(context),
    model_info: {
      'general.architecture': architecture,
      [`${architecture}.block_count`]: layerCount,
      [`${architecture}.context_length`]: maxTokens,
      [`${architecture}.embedding_length`]: dimensions,
    },
    capabilities: ['embedding'],
    modified_at: startedAt(context),
  }
}

function toDetails({ pipeline }: ServerContext): object {
  const { engine, spec } = pipeline
  return {
    format: engine.info.name,
    family: spec.architecture,
    families: [spec.architecture],
    quantization_level: engine.info.precision.toUpperCase(),
  }
}

function startedAt({ startedAtSeconds }: ServerContext): string {
  return new Date(startedAtSeconds * 1000).toISOString()
}
