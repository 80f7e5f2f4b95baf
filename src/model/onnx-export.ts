import { EmbedError } from '../errors.ts'
import { type HfConfig, readHfConfig } from './hf-config.ts'
import { type Activation, activations, buildEncoderGraph, type EncoderShape } from './onnx/encoder-graph.ts'
import { findEncoderWeights } from './onnx/encoder-weights.ts'
import { writeOnnxModel } from './onnx/model-writer.ts'
import { openSafetensors } from './safetensors.ts'
import { familyByArchitecture, familyOf, type GraphFamily, type ModelSpec } from './spec.ts'

/** Gelu is an operator since opset 20; IR version 9 goes with it. */
const versions = { irVersion: 9, opsetVersion: 20 }

export interface ExportOptions {
  readonly precision?: 'fp32'
  /** Weights of this many bytes or more go to `<outPath>.data`. Default 2 GB, near the end of protobuf. */
  readonly maxInlineBytes?: number
}

/** Writes the model's graph and weights as ONNX: input_ids, attention_mask i64 [batch, sequence] ->
 * last_hidden_state f32 [batch, sequence, hiddenSize], pooling not included. The same model gives the same bytes;
 * `outPath` is written whole or not at all, its folder must exist.
 * @throws {EmbedError} ARCHITECTURE_UNSUPPORTED, MODEL_FILE_MISSING (no safetensors), MODEL_FILE_CORRUPT (a tensor is
 * missing or of another shape), MODEL_CONFIG_INVALID (activation), NO_SPACE */
export async function exportOnnx(
  spec: ModelSpec,
  outPath: string,
  options: ExportOptions = {},
): Promise<void> {
  const config = await readHfConfig(spec.folder, spec.files.config)
  const family = familyOf(config)
  if (family === undefined) {
    const known = Object.keys(familyByArchitecture)
    throw new EmbedError('ARCHITECTURE_UNSUPPORTED', { architecture: describe(config), known })
  }
  if (spec.files.weights.length === 0) {
    const fix = 'the ONNX graph is made from it; pull the whole model'
    throw new EmbedError('MODEL_FILE_MISSING', { folder: spec.folder, file: 'model.safetensors', fix })
  }
  const shape = toEncoderShape(spec, config, family)
  await using tensors = await openSafetensors(spec.files.weights)
  const graph = buildEncoderGraph(shape, findEncoderWeights(tensors, spec.files.weights))
  await writeOnnxModel(graph, versions, outPath, options)
}

function toEncoderShape(spec: ModelSpec, config: HfConfig, family: GraphFamily): EncoderShape {
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

function describe({ architecture, isDecoder, positionEmbeddingType }: HfConfig): string {
  if (isDecoder) return `${architecture} as a decoder`
  if (positionEmbeddingType !== 'absolute') return `${architecture} with ${positionEmbeddingType} positions`
  return architecture
}
