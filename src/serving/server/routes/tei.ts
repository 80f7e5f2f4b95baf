/** Embedding in the shapes of text-embeddings-inference 1.9.3. docs/from-tei.md lists what differs and why. */
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { cosine } from '../../../engines/vectors.ts'
import { EmbedError } from '../../../errors.ts'
import { appendFloat32Array } from '../../../float32-text.ts'
import type { EmbedResponse } from '../../pipeline/embedding-pipeline.ts'
import { compileBodyValidator, inputsSchema, optional, sharedFields, toInputList } from '../body-schema.ts'
import type { ServerContext } from '../context.ts'
import { type DialectRequest, embedAllForRequest, embedForRequest, refuseTooMany } from '../embed-request.ts'
import { isRerankBody, refuseRerank } from './tei-other-tasks.ts'

const { truncate, truncation_direction, prompt_name, instruction } = sharedFields
const textFields = { truncate, truncation_direction, prompt_name, instruction }

export const embedSchema = Type.Object(
  { inputs: inputsSchema, ...sharedFields },
  { description: 'Embeds one or more inputs. Extension to TEI: instruction.' },
)
type EmbedBody = Static<typeof embedSchema>

const embedAllSchema = Type.Object(
  { inputs: inputsSchema, ...textFields },
  { description: 'Gives one vector for each token of each input.' },
)

const similaritySchema = Type.Object(
  {
    inputs: Type.Object(
      { source_sentence: Type.String(), sentences: Type.Array(Type.String()) },
      { 'x-expects': 'an object with source_sentence, a text, and sentences, a list of texts' },
    ),
    parameters: optional(
      Type.Object(textFields),
      'an object with truncate, truncation_direction, prompt_name or instruction',
    ),
  },
  { description: 'Cosine of each sentence to the source sentence.' },
)

const vertexSchema = Type.Object(
  {
    instances: Type.Array(Type.Unknown(), {
      'x-expects': 'a list of objects, each a body of /embed',
    }),
  },
  { description: "Vertex AI's envelope around /embed." },
)

export function registerTeiRoutes(app: FastifyInstance, context: ServerContext): void {
  const config = { dialect: 'tei', isEmbedding: true } as const
  const tags = ['TEI']

  for (const path of ['/embed', '/', '/invocations']) {
    const schema = { body: embedSchema, tags }
    app.post<{ Body: EmbedBody }>(path, { schema, config }, async (request, reply) => {
      const result = await embedForRequest(context, reply, toDialectRequest(request.body))
      return reply.type('application/json').send(toVectorList(result))
    })
  }

  app.post<{ Body: Static<typeof embedAllSchema> }>(
    '/embed_all',
    { schema: { body: embedAllSchema, tags }, config },
    async (request, reply) => {
      const body = toDialectRequest(request.body)
      const result = await embedForRequest(context, reply, { ...body, output: 'tokens' })
      return reply.type('application/json').send(Readable.from(toTokenRows(result)))
    },
  )

  app.post<{ Body: Static<typeof similaritySchema> }>(
    '/similarity',
    { schema: { body: similaritySchema, tags }, config },
    async (request, reply) => {
      const { inputs, parameters } = request.body
      // Before the check of the whole list, which never is empty.
      if (inputs.sentences.length === 0) throw new EmbedError('EMPTY_INPUT', {})
      const list = [inputs.source_sentence, ...inputs.sentences]
      const { vectors } = await embedForRequest(
        context,
        reply,
        toDialectRequest({ ...parameters, inputs: list }),
      )
      const [source, ...others] = vectors
      const cosines = Float32Array.from(others, (vector) => cosine(source!, vector))
      return reply.type('application/json').send(appendFloat32Array(cosines))
    },
  )

  const validateInstance = compileBodyValidator({ schema: embedSchema })
  app.post<{ Body: Static<typeof vertexSchema> }>(
    '/vertex',
    { schema: { body: vertexSchema, tags }, config },
    async (request, reply) => {
      const { instances } = request.body
      refuseTooMany(instances.length, context.config.maxInputs)
      const requests = instances.map((instance, index) => {
        if (isRerankBody(instance)) throw refuseRerank(context)
        const checked = validateInstance(instance)
        if ('value' in checked) return toDialectRequest(checked.value as EmbedBody)
        throw new EmbedError('INVALID_REQUEST', { reason: `instance ${index}: ${checked.error.message}` })
      })
      const results = await embedAllForRequest(context, reply, requests)
      return reply.type('application/json').send(`{"predictions":[${results.map(toVectorList).join(',')}]}`)
    },
  )
}

function toDialectRequest(body: EmbedBody): DialectRequest {
  return {
    inputs: toInputList(body.inputs),
    promptName: body.prompt_name,
    instruction: body.instruction,
    truncate: body.truncate,
    truncationDirection: body.truncation_direction,
    dialectTruncation: 'right',
    normalize: body.normalize,
    dimensions: body.dimensions,
  }
}

function toVectorList({ vectors }: EmbedResponse): string {
  return `[${vectors.map((vector) => appendFloat32Array(vector, 0, vector.length)).join(',')}]`
}

/** Some 64 KiB at a time: the whole text may be larger than a string can be. */
function* toTokenRows({ vectors, dimensions }: EmbedResponse): Generator<string> {
  let text = '['
  for (const [index, rows] of vectors.entries()) {
    text += index === 0 ? '[' : ',['
    for (let start = 0; start < rows.length; start += dimensions) {
      if (start > 0) text += ','
      text += appendFloat32Array(rows, start, start + dimensions)
      if (text.length < 65_536) continue
      yield text
      text = ''
    }
    text += ']'
  }
  yield `${text}]`
}
