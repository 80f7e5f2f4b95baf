/** What one text costs, counted from the model's shape: the work that no implementation can leave out. */
import type { ModelSpec } from '../../model/spec.ts'

export type ModelShape = Pick<
  ModelSpec,
  'family' | 'hiddenSize' | 'layerCount' | 'headCount' | 'keyValueHeadCount' | 'headSize' | 'intermediateSize'
>

/** Numbers in the linear layers: what a pass reads of the weights, and multiplies every token with. The vocabulary's table
 * is not among them: of it a pass reads a row a token. */
export function countLinearWeights(shape: ModelShape): number {
  const { hiddenSize, headCount, keyValueHeadCount, headSize, intermediateSize, layerCount, family } = shape
  const query = headCount * headSize
  const attention = hiddenSize * (query + 2 * keyValueHeadCount * headSize) + query * hiddenSize
  // A gated MLP has a third matrix.
  const mlp = (family === 'qwen3' ? 3 : 2) * hiddenSize * intermediateSize
  return layerCount * (attention + mlp)
}

/** Floating point operations of one text; a multiplication and an addition are two. */
export function countTextFlops(shape: ModelShape, tokens: number): number {
  const { headCount, headSize, layerCount, family } = shape
  // Scores and weighted sum; a causal model needs half of the square.
  const square = 4 * tokens * tokens * headCount * headSize * (family === 'qwen3' ? 0.5 : 1)
  return 2 * countLinearWeights(shape) * tokens + layerCount * square
}
