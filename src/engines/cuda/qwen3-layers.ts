/** The weights of a Qwen3's layers, and where what goes into their products lies. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import type { DecoderShape } from '../../model/onnx/decoder-graph.ts'
import type { Activations, ForwardContext } from './forward-pass.ts'
import type { LinearWeights } from './gpu-weights.ts'
import type { LinearInput } from './linear-layers.ts'

export interface Qwen3Layer {
  readonly attentionNorm: DevicePointer
  readonly qkv: LinearWeights
  readonly qkvInput: LinearInput
  readonly queryGamma: DevicePointer
  readonly keyGamma: DevicePointer
  readonly dense: LinearWeights
  readonly denseInput: LinearInput
  readonly feedForwardNorm: DevicePointer
  readonly gateUp: LinearWeights
  readonly gateUpInput: LinearInput
  readonly down: LinearWeights
  readonly downInput: LinearInput
}

/** @param inputs.normed, attended, active what products read at bf16; at FP8 they read what was quantised
 * @throws {EmbedError} MODEL_FILE_CORRUPT, MODEL_CONFIG_INVALID, GPU_OUT_OF_MEMORY, SCALES_INVALID */
export async function loadQwen3Layers(
  shape: DecoderShape,
  { weights, gpuWeights }: ForwardContext,
  inputs: {
    readonly activations: Activations
    readonly normed: DevicePointer
    readonly attended: DevicePointer
    readonly active: DevicePointer
  },
): Promise<Qwen3Layer[]> {
  const { hiddenSize, intermediateSize, headSize, attentionBias } = shape
  const { activations, normed, attended, active } = inputs
  const attentionSize = shape.headCount * headSize
  const keySize = shape.keyValueHeadCount * headSize
  const layers: Qwen3Layer[] = []
  for (let i = 0; i < shape.layerCount; i++) {
    const [stored, at] = [`layers.${i}`, `layer.${i}`]
    const vector = async (name: string, size: number) =>
      gpuWeights.vector([weights.get(`${stored}.${name}.weight`, [size])])
    const matrices = async (
      names: readonly string[],
      outputs: readonly number[],
      inner: number,
      hasBias = false,
    ) =>
      gpuWeights.linear(
        names.map((name, n) => weights.get(`${stored}.${name}.weight`, [outputs[n]!, inner])),
        hasBias ? names.map((name, n) => weights.get(`${stored}.${name}.bias`, [outputs[n]!])) : [],
      )
    const queryKeyValue = ['q', 'k', 'v'].map((part) => `self_attn.${part}_proj`)
    layers.push({
      attentionNorm: await vector('input_layernorm', hiddenSize),
      qkv: await matrices(queryKeyValue, [attentionSize, keySize, keySize], hiddenSize, attentionBias),
      qkvInput: await activations.inputOf(`${at}.attention.qkv`, normed),
      queryGamma: await vector('self_attn.q_norm', headSize),
      keyGamma: await vector('self_attn.k_norm', headSize),
      dense: await matrices(['self_attn.o_proj'], [hiddenSize], attentionSize, attentionBias),
      denseInput: await activations.inputOf(`${at}.attention.dense`, attended),
      feedForwardNorm: await vector('post_attention_layernorm', hiddenSize),
      gateUp: await matrices(
        ['mlp.gate_proj', 'mlp.up_proj'],
        [intermediateSize, intermediateSize],
        hiddenSize,
      ),
      gateUpInput: await activations.inputOf(`${at}.gate_up`, normed),
      down: await matrices(['mlp.down_proj'], [hiddenSize], intermediateSize),
      downInput: await activations.inputOf(`${at}.down`, active),
    })
  }
  return layers
}
