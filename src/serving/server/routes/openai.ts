/** POST /v1/embeddings and GET /v1/models, as OpenAI's clients expect them. @see platform.openai.com/docs/api-reference/embeddings */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { EmbedError } from '../../../errors.ts'
import { inputsSchema, optional, sharedFields, toInputList } from '../body-schema.ts'
import type { ServerContext } from '../context.ts'
import { checkModel, embedForRequest } from '../embed-request.ts'
import { vectorWriter } from '../vector-text.ts'

const bodySchema = Type.Object(
  {
    input: inputsSchema,
    model: optional(Type.String(), 'the name of the model'),
    encoding_format: optional(Type.Enum(['float', 'base64']), "'float' or 'base64'"),
    user: optional(Type.String(), 'a text; it is not used'),
    // The name that Voyage and Mistral gave it.
    output_dtype: optional(
      Type.Enum(['float', 'int8', 'uint8', 'binary', 'ubinary']),
      "'float', 'int8', 'uint8', 'binary' or 'ubinary'",
    ),
    ...sharedFields,
  },
  {
    description:
      'Embeds one or more inputs. Extensions to OpenAI: output_dtype, truncate, truncation_direction, prompt_name, instruction, normalize.',
  },
)

export function registerOpenaiRoutes(app: FastifyInstance, context: ServerContext): void {
  const config = { dialect: 'openai', isEmbedding: true } as const
  const options = { schema: { body: bodySchema, tags: ['OpenAI'] }, config }
  for (const path of ['/v1/embeddings', '/embeddings']) {
    app.post<{ Body: Static<typeof bodySchema> }>(path, options, async (request, reply) => {
      const { body } = request
      checkModel(context, body.model)
      const type = body.output_dtype ?? 'float'
      if (type.endsWith('int8') && body.normalize === false) {
        const reason = `output_dtype '${type}' is for vectors of length 1; leave out normalize: false, or take 'float'`
        throw new EmbedError('INVALID_REQUEST', { reason })
      }
      const result = await embedForRequest(context, reply, {
        inputs: toInputList(body.input),
        promptName: body.prompt_name,
        instruction: body.instruction,
        truncate: body.truncate,
        truncationDirection: body.truncation_direction,
        dialectTruncation: 'none',
        normalize: body.normalize,
        dimensions: body.dimensions,
      })
      const write = vectorWriter(type, body.encoding_format === 'base64')
      const data = result.vectors.map(
        (vector, index) => `{"object":"embedding","index":${index},"embedding":${write(vector)}}`,
      )
      const model = JSON.stringify(context.modelName)
      const usage = `{"prompt_tokens":${result.tokens},"total_tokens":${result.tokens}}`
      return reply
        .type('application/json')
        .send(`{"object":"list","data":[${data.join(',')}],"model":${model},"usage":${usage}}`)
    })
  }

  const listOptions = { schema: { tags: ['OpenAI'] }, config: { dialect: 'openai' as const } }
  app.get('/v1/models', listOptions, () => ({ object: 'list', data: [toModel(context)] }))
  app.get<{ Params: { '*': string } }>('/v1/models/*', listOptions, (request) => {
    // A wildcard, because names such as sentence-transformers/all-MiniLM-L6-v2 hold a slash.
    const name = request.params['*']
    if (name !== context.modelName) {
      throw new EmbedError('SERVED_MODEL_UNKNOWN', { model: name, served: context.modelName })
    }
    return toModel(context)
  })
}

function toModel({ modelName, startedAtSeconds }: ServerContext): object {
  return { id: modelName, object: 'model', created: startedAtSeconds, owned_by: 'local' }
}
