/** From hidden states to one vector a sequence, inside the graph. Nothing is normalised: the caller may not want it. */
import type { Pooling } from '../spec.ts'
import type { GraphBuilder } from './graph-builder.ts'

export const pooledOutput = 'sentence_embedding'
export const tokensOutput = 'last_hidden_state'

/** int64 [batch, 1]: where the token stands that is the vector; undefined where all tokens are. Padding is at the end. */
export function pooledTokenIndex(graph: GraphBuilder, pooling: Pooling): string | undefined {
  if (pooling === 'mean') return undefined
  const axes = graph.integers('axis.1', [1])
  const length = graph.node('ReduceSum', ['attention_mask', axes], 'pooled_token.length')
  return pooling === 'last-token'
    ? graph.node('Sub', [length, graph.integers('one', 1)], 'pooled_token.index')
    : graph.node('Sub', [length, length], 'pooled_token.index')
}

/** [batch, sequence, n] -> [batch, 1, n]: the token at `index` int64 [batch, 1]. */
export function selectToken(graph: GraphBuilder, input: string, index: string, output: string): string {
  const wide = graph.node('Unsqueeze', [index, graph.integers('axis.2', [2])], `${output}.place`)
  return graph.node('GatherND', [input, wide], output, { batch_dims: { int: 1 } })
}

/** f32 [batch, sequence, n] -> f32 [batch, n]: the mean over the real tokens. */
export function meanOverTokens(graph: GraphBuilder, hidden: string, output: string): string {
  const real = graph.node('Cast', ['attention_mask'], 'pooling.real', { to: { int: 1 } })
  const wide = graph.node('Unsqueeze', [real, graph.integers('axis.2', [2])], 'pooling.real.wide')
  const axes = graph.integers('axis.1', [1])
  const masked = graph.node('Mul', [hidden, wide], 'pooling.masked')
  const sum = graph.node('ReduceSum', [masked, axes], 'pooling.sum', { keepdims: { int: 0 } })
  const count = graph.node('ReduceSum', [real, axes], 'pooling.count')
  return graph.node('Div', [sum, count], output)
}
