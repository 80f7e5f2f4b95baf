/** TEI's routes for reranking, classification and sparse vectors: 424 on a dense embedding model, after the checks that
 * TEI makes before it. */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { EmbedError } from '../../../errors.ts'
import { inputsSchema } from '../body-schema.ts'
import type { ServerContext } from '../context.ts'

const rerankSchema = Type.Object(
  {
    query: Type.String({ 'x-expects': 'a text' }),
    texts: Type.Array(Type.String(), { 'x-expects': 'a list of texts' }),
  },
  { description: '424: the served model is no reranker.' },
)
const sequence = Type.Array(Type.String(), { minItems: 1, maxItems: 2 })
const predictSchema = Type.Object(
  {
    inputs: Type.Union([Type.String(), sequence, Type.Array(sequence, { minItems: 1 })], {
      'x-expects': 'a text, a pair of texts, or a list of lists of one or two texts',
    }),
  },
  { description: '424: the served model is no classifier.' },
)
const embedSparseSchema = Type.Object(
  { inputs: inputsSchema },
  { description: '424: the served model has no SPLADE pooling.' },
)

export function registerTeiOtherTaskRoutes(app: FastifyInstance, context: ServerContext): void {
  const config = { dialect: 'tei' as const }
  const tags = ['TEI']
  app.post<{ Body: Static<typeof rerankSchema> }>(
    '/rerank',
    { schema: { body: rerankSchema, tags }, config },
    (request) => {
      if (request.body.texts.length === 0) throw new EmbedError('EMPTY_INPUT', {})
      throw refuseRerank(context)
    },
  )
  app.post('/predict', { schema: { body: predictSchema, tags }, config }, () => {
    throw refuse(context, '/predict', 'a classification model')
  })
  app.post<{ Body: Static<typeof embedSparseSchema> }>(
    '/embed_sparse',
    { schema: { body: embedSparseSchema, tags }, config },
    (request) => {
      if (request.body.inputs.length === 0) throw new EmbedError('EMPTY_INPUT', {})
      throw refuse(context, '/embed_sparse', 'a model with SPLADE pooling')
    },
  )
}

/** What TEI takes for a rerank request among Vertex AI's instances. */
export function isRerankBody(instance: unknown): boolean {
  const { query, texts } = (instance ?? {}) as { query?: unknown; texts?: unknown }
  return typeof query === 'string' && Array.isArray(texts) && texts.every((text) => typeof text === 'string')
}

export function refuseRerank(context: ServerContext): EmbedError {
  return refuse(context, '/rerank', 'a reranking model')
}

function refuse({ modelName }: ServerContext, path: string, needs: string): EmbedError {
  return new EmbedError('TASK_NOT_SUPPORTED', { path, needs, model: modelName })
}
