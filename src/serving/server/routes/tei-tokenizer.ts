/** TEI's POST /tokenize and POST /decode. */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { EmbedError } from '../../../errors.ts'
import { choosePrompt } from '../../pipeline/prompt.ts'
import type { TextToken } from '../../tokenizer/tokenizer.ts'
import { optional, sharedFields } from '../body-schema.ts'
import type { ServerContext } from '../context.ts'
import { refuseTooMany } from '../embed-request.ts'

const tokenizeSchema = Type.Object(
  {
    inputs: Type.Union([Type.String(), Type.Array(Type.String())], {
      'x-expects': 'a text or a list of texts',
    }),
    add_special_tokens: optional(Type.Boolean(), 'true or false'),
    prompt_name: sharedFields.prompt_name,
  },
  { description: 'The tokens of each text; start and stop count UTF-8 bytes.' },
)

const tokenId = Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1 })
const decodeSchema = Type.Object(
  {
    ids: Type.Union([Type.Array(tokenId), Type.Array(Type.Array(tokenId))], {
      'x-expects': 'a list of token ids or a list of such lists',
    }),
    skip_special_tokens: optional(Type.Boolean(), 'true or false'),
  },
  { description: 'The text of token ids.' },
)

export function registerTeiTokenizerRoutes(app: FastifyInstance, context: ServerContext): void {
  const config = { dialect: 'tei' as const }
  app.post<{ Body: Static<typeof tokenizeSchema> }>(
    '/tokenize',
    { schema: { body: tokenizeSchema, tags: ['TEI'] }, config },
    async (request, reply) => {
      const { inputs, add_special_tokens, prompt_name } = request.body
      const { spec, tokenizer } = context.pipeline
      const texts = refuseEmpty(typeof inputs === 'string' ? [inputs] : inputs)
      refuseTooMany(texts.length, context.config.maxInputs)
      // A token is some 70 characters of the answer.
      const chars = texts.reduce((sum, text) => sum + text.length, 0)
      const { maxTextChars } = context.config
      if (chars > maxTextChars) {
        const reason = `the texts have ${chars} characters together, at most ${maxTextChars} are taken; split the list, or raise --max-text-chars`
        throw new EmbedError('INVALID_REQUEST', { reason })
      }
      const prompt = choosePrompt(spec, { promptName: prompt_name ?? undefined })
      const answers: string[] = []
      // One after the other: other requests run between two texts.
      for (const text of texts) {
        const tokens = await tokenizer.inspect(prompt + text, {
          addSpecialTokens: add_special_tokens ?? true,
        })
        answers.push(JSON.stringify(tokens.map(toTeiToken)))
      }
      return reply.type('application/json').send(`[${answers.join(',')}]`)
    },
  )

  app.post<{ Body: Static<typeof decodeSchema> }>(
    '/decode',
    { schema: { body: decodeSchema, tags: ['TEI'] }, config },
    async (request, reply) => {
      const { ids, skip_special_tokens } = request.body
      const lists = refuseEmpty(
        typeof ids[0] === 'number' || ids.length === 0 ? [ids as number[]] : (ids as number[][]),
      )
      refuseTooMany(lists.length, context.config.maxInputs)
      const { tokenizer } = context.pipeline
      const skipSpecialTokens = skip_special_tokens ?? true
      return reply.send(
        await Promise.all(
          lists.map((list) => tokenizer.decode(Int32Array.from(list), { skipSpecialTokens })),
        ),
      )
    },
  )
}

function refuseEmpty<Item extends { readonly length: number }>(items: readonly Item[]): readonly Item[] {
  if (items.length === 0) throw new EmbedError('EMPTY_INPUT', {})
  const index = items.findIndex((item) => item.length === 0)
  if (index >= 0) throw new EmbedError('EMPTY_INPUT', { index })
  return items
}

function toTeiToken({ id, text, special, byteRange }: TextToken): object {
  return { id, text, special, start: byteRange?.[0] ?? null, stop: byteRange?.[1] ?? null }
}
