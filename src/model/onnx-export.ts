import { EmbedError } from '../errors.ts'
import { type ActivationScales, inputScale } from './activation-scales.ts'
import { type HfConfig, readHfConfig } from './hf-config.ts'
import {
  arithmeticTypes,
  type ExportPrecision,
  type GraphInput,
  type GraphOptions,
  type GraphOutput,
} from './onnx/arithmetic.ts'
import { buildDecoderGraph } from './onnx/decoder-graph.ts'
import { toDecoderShape } from './onnx/decoder-shape.ts'
import { buildEncoderGraph } from './onnx/encoder-graph.ts'
import { toEncoderShape } from './onnx/encoder-shape.ts'
import type { OnnxGraph } from './onnx/graph-builder.ts'
import { findModelWeights } from './onnx/model-weights.ts'
import { type WriteProgress, writeOnnxModel } from './onnx/model-writer.ts'
import { openSafetensors, type Safetensors } from './safetensors.ts'
import { familyByArchitecture, familyOf, type GraphFamily, type ModelSpec } from './spec.ts'

/** Gelu is an operator since opset 20; IR version 9 goes with it. */
const versions = { irVersion: 9, opsetVersion: 20 }

export interface ExportOptions {
  /** Default 'fp32'. Norms are f32 in all; fp8 is E4M3 in the linear layers and bf16 elsewhere. */
  readonly precision?: ExportPrecision
  /** Default 'tokens'. 'pooled' as spec.pooling says. */
  readonly output?: GraphOutput
  /** Default 'ids'. */
  readonly inputs?: GraphInput
  /** Needed at fp8, not used otherwise. */
  readonly scales?: ActivationScales | undefined
  /** Adds the output activation_amax f32 [linear layers], for calibration. */
  readonly observe?: boolean
  /** Kept in the file, so that one made with the same options is known again. @see exportKey */
  readonly key?: string
  /** Weights of this many bytes or more go to `<outPath>.data`. Default 2 GB, near the end of protobuf. */
  readonly maxInlineBytes?: number
  readonly onProgress?: ((progress: WriteProgress) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

export interface ExportedGraph {
  /** In the order of activation_amax: 'layer.0.attention.qkv', … */
  readonly linearLayers: readonly string[]
}

/** Writes the model's graph and weights as ONNX: input_ids and attention_mask int64 [batch, sequence], padding at the end
 * -> last_hidden_state f32 [batch, sequence, hiddenSize], or sentence_embedding f32 [batch, hiddenSize], not normalised.
 * The same model gives the same bytes; `outPath` is written whole or not at all, its folder must exist. One weight is in
 * memory at a time. @throws {EmbedError} ARCHITECTURE_UNSUPPORTED, PRECISION_UNSUPPORTED, SCALES_INVALID,
 * MODEL_FILE_MISSING (no safetensors), MODEL_FILE_CORRUPT (a tensor is missing or of another shape),
 * MODEL_CONFIG_INVALID (activation, rope_scaling, …), NO_SPACE, REQUEST_CANCELLED */
export async function exportOnnx(
  spec: ModelSpec,
  outPath: string,
  options: ExportOptions = {},
): Promise<ExportedGraph> {
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
  const { precision = 'fp32', output = 'tokens', inputs = 'ids', observe = false } = options
  if (family === 'qwen3' && precision === 'fp16') {
    const reason =
      'what its layers give leaves the range of fp16 on real texts, which ends in NaN; bf16 is as fast'
    throw new EmbedError('PRECISION_UNSUPPORTED', { architecture: config.architecture, precision, reason })
  }
  await using tensors = await openSafetensors(spec.files.weights)
  const graph = buildGraph(spec, config, family, tensors, {
    type: arithmeticTypes[precision],
    output,
    inputs,
    pooling: spec.pooling,
    observe,
    inputScale: precision === 'fp8' ? toInputScale(options.scales) : undefined,
  })
  const { key } = options
  const metadata = { ...(key !== undefined && { key }), precision, output, inputs, model: spec.contentHash }
  await writeOnnxModel(graph, versions, outPath, { ...options, metadata })
  return { linearLayers: graph.linearLayers }
}

function buildGraph(
  spec: ModelSpec,
  config: HfConfig,
  family: GraphFamily,
  tensors: Safetensors,
  options: GraphOptions,
): OnnxGraph {
  const { config: configFile, weights } = spec.files
  if (family === 'qwen3') {
    const stored = findModelWeights(tensors, weights, 'decoder')
    return buildDecoderGraph(toDecoderShape(config, configFile), stored, options)
  }
  const shape = toEncoderShape(spec, config, family)
  return buildEncoderGraph(shape, findModelWeights(tensors, weights, 'encoder'), options)
}

function toInputScale(scales: ActivationScales | undefined): (layer: string) => number {
  if (scales === undefined) {
    const reason = 'none were given; measure them, or take one fixed scale where the weights are synthetic'
    throw new EmbedError('SCALES_INVALID', { source: 'fp8', reason })
  }
  return (layer) => inputScale(scales, layer)
}

function describe({ architecture, isDecoder, positionEmbeddingType }: HfConfig): string {
  if (isDecoder) return `${architecture} as a decoder`
  if (positionEmbeddingType !== 'absolute') return `${architecture} with ${positionEmbeddingType} positions`
  return architecture
}
