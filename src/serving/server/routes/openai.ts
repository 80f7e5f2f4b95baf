/** POST /v1/embeddings and GET /v1/models, as OpenAI's clients expect them. @see platform.openai.com/docs/api-reference/embeddings */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { EmbedError } from '../../../errors.ts'
import { appendFloat32Array } from '../../../float32-text.ts'
import { inputsSchema, optional, toInputList } from '../body-schema.ts'
import type { ServerContext } from '../context.ts'
import { embedForRequest, setTruncationHeaders } from '../embed-request.ts'

const bodySchema = Type.Object(
  {
    input: inputsSchema,
    model: optional(Type.String(), 'the name of the model'),
    encoding_format: optional(Type.Enum(['float', 'base64']), "'float' or 'base64'"),
    dimensions: optional(Type.Integer(), 'a whole number: the length of the vectors'),
    user: optional(Type.String(), 'a text; it is not used'),
    truncate: optional(Type.Boolean(), 'true to cut texts that are too long, false to refuse them'),
    truncation_direction: optional(
      Type.Enum(['right', 'left', 'Right', 'Left']),
      "'right' to drop the end of a long text, 'left' to drop its beginning",
    ),
    prompt_name: optional(Type.String(), "the name of one of the model's prompts"),
    normalize: optional(Type.Boolean(), 'true or false'),
  },
  {
    description:
      'Embeds one or more inputs. Extensions to OpenAI: truncate, truncation_direction, prompt_name, normalize.',
  },
)

export function registerOpenaiRoutes(app: FastifyInstance, context: ServerContext): void {
  const { config, modelName } = context
  const options = { schema: { body: bodySchema, tags: ['OpenAI'] }, config: { dialect: 'openai' as const } }
  for (const path of ['/v1/embeddings', '/embeddings']) {
    app.post<{ Body: Static<typeof bodySchema> }>(path, options, async (request, reply) => {
      const { body } = request
      if (config.strictModel && body.model != null && body.model !== modelName) {
        throw new EmbedError('SERVED_MODEL_UNKNOWN', { model: body.model, served: modelName })
      }
      const result = await embedForRequest(context, reply, {
        inputs: toInputList(body.input),
        promptName: body.prompt_name,
        truncate: body.truncate,
        truncationDirection: body.truncation_direction,
        dialectTruncation: 'none',
        normalize: body.normalize,
        dimensions: body.dimensions,
      })
      setTruncationHeaders(reply, result)
      const encode = body.encoding_format === 'base64' ? toBase64 : toArray
      const data = result.vectors.map(
        (vector, index) => `{"object":"embedding","index":${index},"embedding":${encode(vector)}}`,
      )
      const usage = `{"prompt_tokens":${result.tokens},"total_tokens":${result.tokens}}`
      return reply
        .type('application/json')
        .send(
          `{"object":"list","data":[${data.join(',')}],"model":${JSON.stringify(modelName)},"usage":${usage}}`,
        )
    })
  }

  const model = { id: modelName, object: 'model', created: context.startedAtSeconds, owned_by: 'local' }
  app.get('/v1/models', { schema: { tags: ['OpenAI'] } }, () => ({ object: 'list', data: [model] }))
  app.get<{ Params: { '*': string } }>('/v1/models/*', { schema: { tags: ['OpenAI'] } }, (request) => {
    // A wildcard, because names such as sentence-transformers/all-MiniLM-L6-v2 hold a slash.
    const name = request.params['*']
    if (name !== modelName) throw new EmbedError('SERVED_MODEL_UNKNOWN', { model: name, served: modelName })
    return model
  })
}

function toArray(vector: Float32Array): string {
  return appendFloat32Array(vector, 0, vector.length)
}

function toBase64(vector: Float32Array): string {
  return `"${Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64')}"`
}
