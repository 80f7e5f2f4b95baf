import { Type } from 'typebox'
import { EmbedError } from '../errors.ts'
import { readJsonFile } from './json-file.ts'

const count = Type.Optional(Type.Union([Type.Integer({ minimum: 1, maximum: 2 ** 31 }), Type.Null()]))
const tokenId = Type.Optional(Type.Union([Type.Integer({ minimum: 0, maximum: 2 ** 31 }), Type.Null()]))
const name = Type.Optional(Type.Union([Type.String(), Type.Null()]))

/** `rope_parameters` holds the base too, since transformers 5; `type` is the name before 4.45. */
const rope = Type.Object({
  rope_type: name,
  type: name,
  rope_theta: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
})

/** The keys that are read; the aliases are those of distilbert, gpt2, t5 and nomic. Others are let through. */
const schema = Type.Object({
  model_type: Type.String({ minLength: 1 }),
  hidden_size: count,
  dim: count,
  d_model: count,
  n_embd: count,
  num_hidden_layers: count,
  n_layers: count,
  n_layer: count,
  num_layers: count,
  num_attention_heads: count,
  n_heads: count,
  n_head: count,
  num_heads: count,
  num_key_value_heads: count,
  head_dim: count,
  intermediate_size: count,
  hidden_dim: count,
  n_inner: count,
  d_ff: count,
  vocab_size: count,
  max_position_embeddings: count,
  n_positions: count,
  type_vocab_size: Type.Optional(Type.Union([Type.Integer({ minimum: 0 }), Type.Null()])),
  pad_token_id: Type.Optional(Type.Union([Type.Integer({ maximum: 2 ** 31 }), Type.Null()])),
  eos_token_id: Type.Optional(Type.Union([tokenId, Type.Array(Type.Integer({ minimum: 0 }))])),
  hidden_act: name,
  layer_norm_eps: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
  position_embedding_type: name,
  is_decoder: Type.Optional(Type.Boolean()),
  relative_attention_num_buckets: count,
  rms_norm_eps: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
  rope_theta: Type.Optional(Type.Union([Type.Number({ exclusiveMinimum: 0 }), Type.Null()])),
  rope_scaling: Type.Optional(Type.Union([rope, Type.Null()])),
  rope_parameters: Type.Optional(Type.Union([rope, Type.Null()])),
  attention_bias: Type.Optional(Type.Boolean()),
  use_sliding_window: Type.Optional(Type.Union([Type.Boolean(), Type.Null()])),
  layer_types: Type.Optional(Type.Union([Type.Array(Type.String()), Type.Null()])),
})

/** config.json with one name a thing, whatever the architecture calls it. */
export interface HfConfig {
  readonly architecture: string
  readonly hiddenSize: number
  readonly layerCount: number
  readonly headCount: number
  readonly keyValueHeadCount: number
  readonly headSize: number
  readonly intermediateSize: number
  readonly vocabularySize: number
  readonly maxPositionEmbeddings: number | undefined
  readonly typeVocabularySize: number | undefined
  readonly padTokenId: number | undefined
  readonly eosTokenId: number | undefined
  readonly hiddenAct: string
  readonly layerNormEpsilon: number
  readonly positionEmbeddingType: string
  readonly isDecoder: boolean
  readonly relativeAttentionBucketCount: number
  readonly rmsNormEpsilon: number
  /** Base of the rotary positions. */
  readonly ropeTheta: number
  /** How the rotary positions are stretched; 'default': not at all. */
  readonly ropeType: string
  readonly attentionBias: boolean
  readonly usesSlidingWindow: boolean
}

/** Reads config.json.
 * @throws {EmbedError} MODEL_FILE_MISSING, MODEL_FILE_CORRUPT (not JSON, wrong types), MODEL_CONFIG_INVALID (a key is missing) */
export async function readHfConfig(folder: string, path: string): Promise<HfConfig> {
  const raw = await readJsonFile(path, schema)
  if (raw === undefined) {
    const fix = 'give the folder of a Hugging Face model'
    throw new EmbedError('MODEL_FILE_MISSING', { folder, file: 'config.json', fix })
  }
  const invalid = (reason: string) => new EmbedError('MODEL_CONFIG_INVALID', { file: path, reason })
  const need = (...keys: readonly (keyof typeof raw)[]): number => {
    const value = keys.map((key) => raw[key]).find((entry) => typeof entry === 'number')
    if (value === undefined) throw invalid(`has no ${keys.join(' or ')}`)
    return value
  }
  const hiddenSize = need('hidden_size', 'dim', 'd_model', 'n_embd')
  const headCount = need('num_attention_heads', 'n_heads', 'n_head', 'num_heads')
  const headSize = raw.head_dim ?? hiddenSize / headCount
  if (!Number.isInteger(headSize)) {
    throw invalid(`hidden_size ${hiddenSize} is not a multiple of num_attention_heads ${headCount}`)
  }
  const scaling = raw.rope_scaling ?? raw.rope_parameters
  const eos = Array.isArray(raw.eos_token_id) ? raw.eos_token_id[0] : raw.eos_token_id
  const pad = raw.pad_token_id ?? undefined
  return {
    architecture: raw.model_type,
    hiddenSize,
    layerCount: need('num_hidden_layers', 'n_layers', 'n_layer', 'num_layers'),
    headCount,
    keyValueHeadCount: raw.num_key_value_heads ?? headCount,
    headSize,
    // gpt2 and nomic write null for "four times the hidden size".
    intermediateSize: raw.intermediate_size ?? raw.hidden_dim ?? raw.n_inner ?? raw.d_ff ?? 4 * hiddenSize,
    vocabularySize: need('vocab_size'),
    maxPositionEmbeddings: raw.max_position_embeddings ?? raw.n_positions ?? undefined,
    typeVocabularySize: raw.type_vocab_size ?? undefined,
    // -1 means "none" in configurations written by hand.
    padTokenId: pad !== undefined && pad >= 0 ? pad : undefined,
    eosTokenId: eos ?? undefined,
    hiddenAct: raw.hidden_act ?? 'gelu',
    layerNormEpsilon: raw.layer_norm_eps ?? 1e-12,
    positionEmbeddingType: raw.position_embedding_type ?? 'absolute',
    isDecoder: raw.is_decoder ?? false,
    relativeAttentionBucketCount: raw.relative_attention_num_buckets ?? 32,
    rmsNormEpsilon: raw.rms_norm_eps ?? 1e-6,
    ropeTheta: raw.rope_theta ?? raw.rope_parameters?.rope_theta ?? 10_000,
    ropeType: scaling?.rope_type ?? scaling?.type ?? 'default',
    attentionBias: raw.attention_bias ?? false,
    usesSlidingWindow:
      raw.use_sliding_window === true || (raw.layer_types ?? []).includes('sliding_attention'),
  }
}
