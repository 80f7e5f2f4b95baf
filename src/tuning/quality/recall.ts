/** Whether a search finds the same. */
import { cosine } from '../../engines/vectors.ts'

/** Mean share of the `k` nearest texts of each query that both sets of vectors agree on.
 * @param candidate, reference vectors of the same texts, queries and corpus apart */
export function recallOverlap(
  candidate: { readonly queries: readonly Float32Array[]; readonly corpus: readonly Float32Array[] },
  reference: { readonly queries: readonly Float32Array[]; readonly corpus: readonly Float32Array[] },
  k: number,
): number {
  const shares = candidate.queries.map((query, i) => {
    const expected = new Set(findNearest(reference.queries[i]!, reference.corpus, k))
    return (
      findNearest(query, candidate.corpus, k).filter((place) => expected.has(place)).length / expected.size
    )
  })
  return shares.reduce((sum, share) => sum + share, 0) / shares.length
}

/** Places of the `k` nearest, the nearest first; equals in their order. */
function findNearest(query: Float32Array, corpus: readonly Float32Array[], k: number): number[] {
  const similarities = corpus.map((vector) => cosine(query, vector))
  return [...corpus.keys()].sort((a, b) => similarities[b]! - similarities[a]!).slice(0, k)
}
