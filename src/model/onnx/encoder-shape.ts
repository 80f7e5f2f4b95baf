import { EmbedError } from '../../errors.ts'
import type { HfConfig } from '../hf-config.ts'
import type { GraphFamily, ModelSpec } from '../spec.ts'
import { type Activation, activations, type EncoderShape } from './encoder-graph.ts'

/** @throws {EmbedError} MODEL_CONFIG_INVALID (activation, no positions) */
export function toEncoderShape(spec: ModelSpec, config: HfConfig, family: GraphFamily): EncoderShape {
  const { hiddenAct, maxPositionEmbeddings } = config
  const invalid = (reason: string) =>
    new EmbedError('MODEL_CONFIG_INVALID', { file: spec.files.config, reason })
  if (!isActivation(hiddenAct)) {
    throw invalid(
      `hidden_act '${hiddenAct}' is not supported; known are ${Object.keys(activations).join(', ')}`,
    )
  }
  if (maxPositionEmbeddings === undefined) throw invalid('has no max_position_embeddings')
  return {
    hiddenSize: config.hiddenSize,
    layerCount: config.layerCount,
    headCount: config.headCount,
    headSize: config.headSize,
    intermediateSize: config.intermediateSize,
    vocabularySize: config.vocabularySize,
    maxPositionEmbeddings,
    typeVocabularySize: typeVocabularySize(config, family),
    activation: hiddenAct,
    layerNormEpsilon: config.layerNormEpsilon,
    positionsAfterPadTokenId: family === 'bert' ? undefined : spec.padTokenId,
    relativeBucketCount: family === 'mpnet' ? config.relativeAttentionBucketCount : undefined,
    attentionNames: family === 'mpnet' ? mpnetAttention : bertAttention,
  }
}

const bertAttention = {
  query: 'self.query',
  key: 'self.key',
  value: 'self.value',
  output: 'output.dense',
  layerNorm: 'output.LayerNorm',
} as const

const mpnetAttention = {
  query: 'attn.q',
  key: 'attn.k',
  value: 'attn.v',
  output: 'attn.o',
  layerNorm: 'LayerNorm',
} as const

/** transformers' default where config.json leaves it out. */
function typeVocabularySize(config: HfConfig, family: GraphFamily): number {
  return family === 'mpnet' ? 0 : (config.typeVocabularySize ?? 2)
}

function isActivation(name: string): name is Activation {
  return Object.hasOwn(activations, name)
}
