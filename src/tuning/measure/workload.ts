/** What is sent: requests of one or more texts, with their tokens counted beforehand. */
import { EmbedError } from '../../errors.ts'
import { makeCorpus } from './corpus.ts'
import type { Tokenizer } from '../../serving/tokenizer/tokenizer.ts'

export interface WorkloadRequest {
  readonly texts: readonly string[]
  /** What goes through the model: special tokens counted, cut to the model's length. */
  readonly tokens: number
}

export interface Workload {
  /** e.g. '64 tokens', 'mix', 'queries.txt', '128 tokens x 32' */
  readonly name: string
  /** Sent in turn, over and over; at least one. */
  readonly requests: readonly WorkloadRequest[]
}

/** Tokens of each text, special tokens included, cut to what the model takes; with `whole` those that are cut too. */
export type CountTokens = (
  texts: readonly string[],
  options?: { readonly whole?: boolean },
) => Promise<readonly number[]>

export function createTokenCounter(tokenizer: Pick<Tokenizer, 'encode'>, maxTokens: number): CountTokens {
  return async (texts, { whole = false } = {}) => {
    const encoded = await tokenizer.encode(texts, { maxTokens, truncation: 'right' })
    return encoded.map(({ ids, totalTokens }) => (whole ? totalTokens : ids.length))
  }
}

const defaultTexts = 256

/** Texts of exactly so many tokens, special tokens included.
 * @throws {EmbedError} WORKLOAD_INVALID where the tokenizer has no text of that length */
export async function makeFixedLengthWorkload(
  tokens: number,
  options: { readonly countTokens: CountTokens; readonly textsPerRequest?: number; readonly texts?: number },
): Promise<Workload> {
  const { countTokens, textsPerRequest = 1, texts: count = 64 } = options
  const words = makeCorpus(200, 1).flatMap((text) => text.split(' '))
  const texts: string[] = []
  for (let attempt = 0; texts.length < count && attempt < count * 4; attempt++) {
    const text = await fitText(words, (attempt * 37) % words.length, tokens, countTokens)
    if (text !== undefined) texts.push(text)
  }
  if (texts.length < count) {
    const reason = `no text of exactly ${tokens} tokens can be made for this model; give another length, or a file`
    throw new EmbedError('WORKLOAD_INVALID', { workload: `${tokens} tokens`, reason })
  }
  const counts = texts.map(() => tokens)
  return toWorkload(`${tokens} tokens`, texts, counts, textsPerRequest)
}

/** Generated texts of the lengths of real traffic. */
export async function makeMixedWorkload(options: {
  readonly countTokens: CountTokens
  readonly textsPerRequest?: number
}): Promise<Workload> {
  return makeTextsWorkload('mix', makeCorpus(defaultTexts, 1), options)
}

/** Any texts, e.g. the user's own. @throws {EmbedError} WORKLOAD_INVALID when there are none */
export async function makeTextsWorkload(
  name: string,
  texts: readonly string[],
  options: { readonly countTokens: CountTokens; readonly textsPerRequest?: number },
): Promise<Workload> {
  if (texts.length === 0)
    throw new EmbedError('WORKLOAD_INVALID', { workload: name, reason: 'it has no texts' })
  return toWorkload(name, texts, await options.countTokens(texts), options.textsPerRequest ?? 1)
}

function toWorkload(
  name: string,
  texts: readonly string[],
  counts: readonly number[],
  textsPerRequest: number,
): Workload {
  // As many requests as texts, each list begins one text further on.
  const requests = texts.map((_, start) => {
    const places = Array.from({ length: textsPerRequest }, (_each, k) => (start + k) % texts.length)
    return {
      texts: places.map((place) => texts[place]!),
      tokens: places.reduce((sum, place) => sum + counts[place]!, 0),
    }
  })
  return { name: textsPerRequest === 1 ? name : `${name} x ${textsPerRequest}`, requests }
}

/** Words from `start` on, cut until they fit, filled up with something of one token. */
async function fitText(
  words: readonly string[],
  start: number,
  tokens: number,
  countTokens: CountTokens,
): Promise<string | undefined> {
  const count = async (text: string): Promise<number> => (await countTokens([text], { whole: true }))[0]!
  // One token a word at least; the rest is halved in.
  let least = 0
  let most = tokens
  const toText = (length: number): string =>
    Array.from({ length }, (_, i) => words[(start + i) % words.length]!).join(' ')
  while (least < most) {
    const middle = (least + most + 1) >> 1
    if ((await count(toText(middle))) <= tokens) least = middle
    else most = middle - 1
  }
  if (least === 0) return undefined
  const text = toText(least)
  const missing = tokens - (await count(text))
  // Where a token is a byte, only the second filler is one token.
  for (const filler of [' the', 'e']) {
    const filled = text + filler.repeat(missing)
    if ((await count(filled)) === tokens && (await countTokens([filled]))[0] === tokens) return filled
  }
  return undefined
}
