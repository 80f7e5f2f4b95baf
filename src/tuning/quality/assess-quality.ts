/** How near an engine's vectors are to the reference, on all that may go wrong. */
import { cosine } from '../../engines/vectors.ts'
import { EmbedError } from '../../errors.ts'
import type { QualityTexts } from './quality-texts.ts'
import { recallOverlap } from './recall.ts'
import type { EmbedTexts } from './reference-vectors.ts'

export interface QualityReport {
  readonly texts: number
  readonly worstCosine: number
  /** The text of the worst one, its beginning. */
  readonly worstText: string
  readonly meanCosine: number
  /** By tokens, rounded up to a power of two. */
  readonly byLength: readonly {
    readonly maxTokens: number
    readonly texts: number
    readonly worstCosine: number
    readonly meanCosine: number
  }[]
  /** Share of the ten nearest that both agree on. */
  readonly recallAt10: number
  /** Largest distance of a vector's length from 1. */
  readonly normError: number
  /** Texts that gave NaN, infinity, or no vector for that reason; their beginnings. */
  readonly nonFiniteTexts: readonly string[]
  /** Worst cosine of a text alone to the same text among others. */
  readonly batchCosine: number
}

/** The texts in the order in which their vectors are wanted. */
export function listQualityTexts({ corpus, queries, graded, adversarial }: QualityTexts): string[] {
  return [...corpus, ...queries, ...graded, ...adversarial]
}

/** Texts of one request of the batched pass. */
const batchedTexts = 32

/** @param reference vectors of listQualityTexts(texts)
 * @throws {EmbedError} what `embed` throws, but for NON_FINITE_OUTPUT, which is counted */
export async function assessQuality(options: {
  readonly texts: QualityTexts
  readonly reference: readonly Float32Array[]
  readonly embed: EmbedTexts
  /** Tokens of each text as it is embedded. */
  readonly countTokens: (texts: readonly string[]) => Promise<readonly number[]>
  readonly onText?: (done: number, of: number) => void
}): Promise<QualityReport> {
  const { texts, reference, embed } = options
  const all = listQualityTexts(texts)
  const tokens = await options.countTokens(all)
  const alone: (Float32Array | undefined)[] = []
  for (const text of all) {
    alone.push(await embedFinite(embed, text))
    options.onText?.(alone.length, all.length)
  }
  const finite = [...all.keys()].filter((i) => alone[i] !== undefined)
  const cosines = new Map(finite.map((i) => [i, cosine(alone[i]!, reference[i]!)]))
  const worst = finite.toSorted((a, b) => rank(cosines.get(a)!) - rank(cosines.get(b)!))[0] ?? 0
  const inBatches = await embedInBatches(embed, all, finite)
  const vectorsOf = (
    vectors: readonly (Float32Array | undefined)[],
    start: number,
    count: number,
  ): Float32Array[] =>
    vectors
      .slice(start, start + count)
      .map((vector, i) => vector ?? new Float32Array(reference[start + i]!.length))
  const split = (vectors: readonly (Float32Array | undefined)[]) => ({
    corpus: vectorsOf(vectors, 0, texts.corpus.length),
    queries: vectorsOf(vectors, texts.corpus.length, texts.queries.length),
  })
  return {
    texts: all.length,
    worstCosine: cosines.get(worst) ?? Number.NaN,
    worstText: shorten(all[worst] ?? ''),
    meanCosine: mean([...cosines.values()]),
    byLength: groupByLength(finite, tokens, cosines),
    recallAt10: recallOverlap(split(alone), split(reference), 10),
    normError: Math.max(...finite.map((i) => Math.abs(Math.hypot(...alone[i]!) - 1))),
    nonFiniteTexts: [...all.keys()].filter((i) => alone[i] === undefined).map((i) => shorten(all[i]!)),
    batchCosine: Math.min(...finite.map((i) => cosine(alone[i]!, inBatches.get(i)!))),
  }
}

async function embedFinite(embed: EmbedTexts, text: string): Promise<Float32Array | undefined> {
  try {
    const [vector] = await embed([text])
    return vector!.every((value) => Number.isFinite(value)) ? vector : undefined
  } catch (error) {
    if (error instanceof EmbedError && error.code === 'NON_FINITE_OUTPUT') return undefined
    throw error
  }
}

/** Lists whose neighbours differ in length: every text is padded, and stands elsewhere than when it was alone. */
async function embedInBatches(
  embed: EmbedTexts,
  all: readonly string[],
  places: readonly number[],
): Promise<Map<number, Float32Array>> {
  const vectors = new Map<number, Float32Array>()
  const lists = Math.ceil(places.length / batchedTexts)
  for (let list = 0; list < lists; list++) {
    const own = places.filter((_, i) => i % lists === list)
    const embedded = await embed(own.map((i) => all[i]!))
    for (const [k, i] of own.entries()) vectors.set(i, embedded[k]!)
  }
  return vectors
}

function groupByLength(
  places: readonly number[],
  tokens: readonly number[],
  cosines: ReadonlyMap<number, number>,
): QualityReport['byLength'] {
  const groups = new Map<number, number[]>()
  for (const i of places) {
    const maxTokens = 2 ** Math.ceil(Math.log2(tokens[i]!))
    groups.set(maxTokens, [...(groups.get(maxTokens) ?? []), cosines.get(i)!])
  }
  return [...groups]
    .sort(([a], [b]) => a - b)
    .map(([maxTokens, own]) => ({
      maxTokens,
      texts: own.length,
      worstCosine: Math.min(...own),
      meanCosine: mean(own),
    }))
}

/** NaN, the cosine of a vector of zeros, is the worst there is. */
function rank(similarity: number): number {
  return Number.isNaN(similarity) ? -2 : similarity
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
