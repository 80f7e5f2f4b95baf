import { EmbedError } from '../../errors.ts'
import type { HfConfig } from '../hf-config.ts'
import type { DecoderShape } from './decoder-graph.ts'

/** @param file config.json, for errors   @throws {EmbedError} MODEL_CONFIG_INVALID (what would change the result) */
export function toDecoderShape(config: HfConfig, file: string): DecoderShape {
  const invalid = (reason: string) => new EmbedError('MODEL_CONFIG_INVALID', { file, reason })
  const { hiddenAct, ropeType, headCount, keyValueHeadCount, headSize } = config
  // Left out, it is silu; HfConfig's default is that of the encoders.
  if (hiddenAct !== 'silu' && hiddenAct !== 'gelu') {
    throw invalid(`hidden_act '${hiddenAct}' is not supported; a decoder's is silu`)
  }
  if (ropeType !== 'default') {
    throw invalid(
      `rope_scaling '${ropeType}' is not supported; leave it out for texts of up to max_position_embeddings`,
    )
  }
  if (config.usesSlidingWindow) {
    throw invalid('a sliding window (use_sliding_window, layer_types sliding_attention) is not supported')
  }
  if (headCount % keyValueHeadCount !== 0) {
    throw invalid(
      `num_attention_heads ${headCount} is not a multiple of num_key_value_heads ${keyValueHeadCount}`,
    )
  }
  if (headSize % 2 !== 0) throw invalid(`head_dim ${headSize} is odd, rotary positions need pairs`)
  return {
    hiddenSize: config.hiddenSize,
    layerCount: config.layerCount,
    headCount,
    keyValueHeadCount,
    headSize,
    intermediateSize: config.intermediateSize,
    vocabularySize: config.vocabularySize,
    rmsNormEpsilon: config.rmsNormEpsilon,
    ropeTheta: config.ropeTheta,
    attentionBias: config.attentionBias,
  }
}
