/** POST /v2/embed and /v1/embed, as Cohere's clients expect them. @see docs.cohere.com/reference/embed */
import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import type { ModelSpec } from '../../../model/spec.ts'
import type { EmbedResponse } from '../../pipeline/embedding-pipeline.ts'
import { optional } from '../body-schema.ts'
import type { ServerContext } from '../context.ts'
import { checkModel, embedForRequest } from '../embed-request.ts'
import { vectorWriter } from '../vector-text.ts'

const inputTypes = ['search_document', 'search_query', 'classification', 'clustering'] as const
const embeddingTypes = ['float', 'int8', 'uint8', 'binary', 'ubinary', 'base64'] as const
type EmbeddingType = (typeof embeddingTypes)[number]

const bodySchema = Type.Object(
  {
    texts: Type.Array(Type.String(), { 'x-expects': 'a list of texts; images are not taken' }),
    model: optional(Type.String(), 'the name of the model'),
    input_type: optional(
      Type.Enum(inputTypes),
      "'search_document', 'search_query', 'classification' or 'clustering'",
    ),
    embedding_types: optional(
      Type.Array(Type.Enum(embeddingTypes)),
      "a list of 'float', 'int8', 'uint8', 'binary', 'ubinary' or 'base64'",
    ),
    output_dimension: optional(Type.Integer(), 'a whole number: the length of the vectors'),
    truncate: optional(
      Type.Enum(['NONE', 'START', 'END']),
      "'NONE' to refuse long texts, 'START' to drop their beginning, 'END' to drop their end",
    ),
    // What would change the answer is not dropped in silence.
    images: optional(Type.Never(), 'nothing here; the model embeds texts'),
    inputs: optional(Type.Never(), "nothing here; give the texts in 'texts'"),
    max_tokens: optional(Type.Never(), "nothing here; texts are cut at the model's own length"),
  },
  { description: "Embeds texts. The model's prompt that fits input_type is put before each." },
)
type Body = Static<typeof bodySchema>

/** Names of prompts that do for an input type, as sentence-transformers' encode_query and encode_document choose them. */
const promptNames: Readonly<Record<(typeof inputTypes)[number], readonly string[]>> = {
  search_query: ['query', 'search_query'],
  search_document: ['document', 'passage', 'corpus', 'search_document'],
  classification: ['classification'],
  clustering: ['clustering'],
}

const truncations = {
  NONE: { truncate: false, truncationDirection: undefined },
  START: { truncate: true, truncationDirection: 'left' },
  END: { truncate: true, truncationDirection: 'right' },
}

export function registerCohereRoutes(app: FastifyInstance, context: ServerContext): void {
  for (const version of ['2', '1']) {
    const options = {
      schema: { body: bodySchema, tags: ['Cohere'] },
      config: { dialect: 'cohere', isEmbedding: true } as const,
    }
    app.post<{ Body: Body }>(`/v${version}/embed`, options, async (request, reply) => {
      const { body } = request
      checkModel(context, body.model)
      const result = await embedForRequest(context, reply, {
        inputs: body.texts,
        promptName: choosePromptName(context.pipeline.spec, body.input_type),
        ...(body.truncate == null ? {} : truncations[body.truncate]),
        dialectTruncation: 'right',
        dimensions: body.output_dimension,
      })
      const types = new Set<EmbeddingType>(body.embedding_types ?? [])
      // Version 1 answers a bare list when no type is asked for.
      const isBare = version === '1' && types.size === 0
      const embeddings = isBare
        ? toList(result, 'float')
        : toObject(result, types.size === 0 ? ['float'] : types)
      const meta = { api_version: { version }, billed_units: { input_tokens: result.tokens } }
      return reply
        .type('application/json')
        .send(
          `{"id":"${randomUUID()}","embeddings":${embeddings},"texts":${JSON.stringify(body.texts)},` +
            `"meta":${JSON.stringify(meta)},"response_type":"${isBare ? 'embeddings_floats' : 'embeddings_by_type'}"}`,
        )
    })
  }
}

/** Undefined, and so the model's default, where the model has none that fits. */
function choosePromptName({ prompts }: ModelSpec, inputType: Body['input_type']): string | undefined {
  return inputType == null ? undefined : promptNames[inputType].find((name) => Object.hasOwn(prompts, name))
}

function toObject(result: EmbedResponse, types: Iterable<EmbeddingType>): string {
  return `{${Array.from(types, (type) => `"${type}":${toList(result, type)}`).join(',')}}`
}

function toList({ vectors }: EmbedResponse, type: EmbeddingType): string {
  const write = type === 'base64' ? vectorWriter('float', true) : vectorWriter(type, false)
  return `[${vectors.map(write).join(',')}]`
}
