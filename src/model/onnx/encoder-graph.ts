import { addAmaxOutput } from './amax-output.ts'
import { type ArithmeticType, type GraphOptions, maskedScore } from './arithmetic.ts'
import { narrow, toBytes } from './element-types.ts'
import { GraphBuilder, type OnnxGraph } from './graph-builder.ts'
import { Linears } from './linear.ts'
import type { ModelWeights } from './model-weights.ts'
import { meanOverTokens, pooledOutput, pooledTokenIndex, selectToken, tokensOutput } from './pooled-output.ts'
import { positionBiasTable } from './position-bias.ts'
import { dataTypes } from './proto.ts'
import { addInPlace } from './row-major.ts'
import { loadAsStored } from './weight-loaders.ts'

/** Activations by config.json's hidden_act. Gelu is an operator since opset 20; ONNX Runtime 1.30 and OpenVINO 2026.4
 * run it as fast as the form with Erf. */
export const activations = {
  gelu: { opType: 'Gelu', attributes: {} },
  gelu_new: { opType: 'Gelu', attributes: { approximate: { string: 'tanh' } } },
  gelu_pytorch_tanh: { opType: 'Gelu', attributes: { approximate: { string: 'tanh' } } },
  relu: { opType: 'Relu', attributes: {} },
} as const
export type Activation = keyof typeof activations

/** Post-layer-norm encoders: BERT, RoBERTa, XLM-RoBERTa, MPNet. */
export interface EncoderShape {
  readonly hiddenSize: number
  readonly layerCount: number
  readonly headCount: number
  readonly headSize: number
  readonly intermediateSize: number
  readonly vocabularySize: number
  readonly maxPositionEmbeddings: number
  /** 0: the model has no type embeddings. */
  readonly typeVocabularySize: number
  readonly activation: Activation
  readonly layerNormEpsilon: number
  /** Set where positions are counted over real tokens from padTokenId + 1; else they are places. */
  readonly positionsAfterPadTokenId: number | undefined
  /** Set where attention has MPNet's bias by relative position. */
  readonly relativeBucketCount: number | undefined
  /** Where a layer's four attention projections and their layer norm are. */
  readonly attentionNames: Readonly<Record<'query' | 'key' | 'value' | 'output' | 'layerNorm', string>>
}

interface Encoder {
  readonly graph: GraphBuilder
  readonly shape: EncoderShape
  readonly weights: ModelWeights
  readonly linears: Linears
  readonly type: ArithmeticType
}

/** input_ids (or inputs_embeds), attention_mask -> last_hidden_state f32 [batch, sequence, hiddenSize] or
 * sentence_embedding f32 [batch, hiddenSize]. Where one token becomes the vector, the last layer computes query and MLP
 * for it alone.
 * Query, key and value stay three products: one fused product measured no faster in ONNX Runtime and left OpenVINO two
 * more passes at bf16. @throws {EmbedError} MODEL_FILE_CORRUPT (a tensor is missing or of another shape) */
export function buildEncoderGraph(
  shape: EncoderShape,
  weights: ModelWeights,
  options: GraphOptions,
): OnnxGraph {
  const { type, output, pooling } = options
  const graph = new GraphBuilder('encoder')
  const encoder = { graph, shape, weights, type, linears: new Linears(graph, weights, options) }
  const words = embedWords(encoder, options.inputs)
  graph.input('attention_mask', 'int64', ['batch', 'sequence'])
  const sequence = graph.node('Shape', ['attention_mask'], 'sequence_length', {
    start: { int: 1 },
    end: { int: 2 },
  })
  const mask = maskScores(encoder)
  const bias =
    shape.relativeBucketCount === undefined
      ? undefined
      : relativeBias(encoder, shape.relativeBucketCount, sequence)
  const index = output === 'pooled' ? pooledTokenIndex(graph, pooling) : undefined
  // A bias by relative position would need the row of that token in every layer's scores.
  const lastIndex = bias === undefined ? index : undefined
  let hidden = addPositions(encoder, words, sequence)
  for (let layer = 0; layer < shape.layerCount; layer++) {
    const isLast = layer === shape.layerCount - 1
    const attended = attend(encoder, layer, hidden, { mask, bias, index: isLast ? lastIndex : undefined })
    const name = isLast && output === 'tokens' ? tokensOutput : `layer.${layer}.output`
    hidden = feedForward(encoder, layer, attended, name)
  }
  if (output === 'tokens') {
    graph.output(tokensOutput, 'float', ['batch', 'sequence', shape.hiddenSize])
  } else {
    graph.output(pooledOutput, 'float', ['batch', shape.hiddenSize])
    if (index === undefined) meanOverTokens(graph, hidden, pooledOutput)
    else {
      const token = lastIndex === undefined ? selectToken(graph, hidden, index, 'pooled_token') : hidden
      graph.node('Squeeze', [token, graph.integers('axis.1', [1])], pooledOutput)
    }
  }
  const { inputs } = encoder.linears
  if (options.observe === true) addAmaxOutput(graph, inputs, type)
  return graph.build(inputs.keys())
}

function embedWords({ graph, shape, weights, type }: Encoder, inputs: GraphOptions['inputs']): string {
  const { hiddenSize, vocabularySize } = shape
  if (inputs === 'embeddings') return graph.input('inputs_embeds', type, ['batch', 'sequence', hiddenSize])
  graph.input('input_ids', 'int64', ['batch', 'sequence'])
  const tableShape = [vocabularySize, hiddenSize]
  const stored = weights.get('embeddings.word_embeddings.weight', tableShape)
  const words = graph.weight('embeddings.word', tableShape, type, () => loadAsStored(stored, type))
  return graph.node('Gather', [words, 'input_ids'], 'embeddings.word.rows')
}

/** Word + position + type 0. The last two are one table: this package embeds single texts, never pairs. */
function addPositions(encoder: Encoder, word: string, sequence: string): string {
  const { graph, shape, weights, type } = encoder
  const { hiddenSize, maxPositionEmbeddings, typeVocabularySize } = shape
  const positionShape = [maxPositionEmbeddings, hiddenSize]
  const storedPositions = weights.get('embeddings.position_embeddings.weight', positionShape)
  const storedTypes =
    typeVocabularySize === 0
      ? undefined
      : weights.get('embeddings.token_type_embeddings.weight', [typeVocabularySize, hiddenSize])
  const positions = graph.weight('embeddings.position', positionShape, type, async function* () {
    const table = await storedPositions.readFloat32()
    const types = await storedTypes?.readFloat32()
    yield toBytes(
      narrow(types === undefined ? table : addInPlace(table, types.subarray(0, hiddenSize)), type),
    )
  })
  const position =
    shape.positionsAfterPadTokenId === undefined
      ? firstRows(graph, positions, sequence)
      : graph.node(
          'Gather',
          [positions, countedPositions(graph, shape.positionsAfterPadTokenId)],
          'embeddings.position.rows',
        )
  const sum = graph.node('Add', [word, position], 'embeddings.sum')
  return layerNorm(
    encoder,
    graph.cast(sum, type, 'float', 'embeddings.wide'),
    'embeddings.LayerNorm',
    'embeddings.output',
  )
}

/** TensorRT 10.6 takes an absent list of axes for all of them, so the axis is said. */
function firstRows(graph: GraphBuilder, table: string, count: string): string {
  const zero = graph.integers('axis.0', [0])
  return graph.node('Slice', [table, zero, count, zero], 'embeddings.position.rows')
}

/** The n-th real token has position padTokenId + n, padding has padTokenId, on whichever side it is. */
function countedPositions(graph: GraphBuilder, padTokenId: number): string {
  const axis = graph.integers('axis.1.scalar', 1)
  const count = graph.node('CumSum', ['attention_mask', axis], 'embeddings.position.count')
  const real = graph.node('Mul', [count, 'attention_mask'], 'embeddings.position.real')
  return graph.node('Add', [real, graph.integers('pad_token_id', padTokenId)], 'embeddings.position.ids')
}

/** [batch, 1, 1, sequence], added to the scores. */
function maskScores({ graph, type }: Encoder): string {
  const wide = graph.node('Unsqueeze', ['attention_mask', graph.integers('axes.1.2', [1, 2])], 'mask.wide')
  const real = graph.node('Cast', [wide], 'mask.real', { to: { int: dataTypes.bool } })
  return graph.node(
    'Where',
    [real, graph.scalar('zero', 0, type), graph.scalar('masked_score', maskedScore, type)],
    'mask.scores',
  )
}

/** [headCount, sequence, sequence], the same in every layer. */
function relativeBias(
  { graph, shape, weights, type }: Encoder,
  bucketCount: number,
  sequence: string,
): string {
  const { headCount, maxPositionEmbeddings: maxPositions } = shape
  const stored = weights.get('encoder.relative_attention_bias.weight', [bucketCount, headCount])
  const table = graph.weight(
    'relative_bias.table',
    [headCount, 2 * maxPositions - 1],
    type,
    async function* () {
      const sizes = { bucketCount, headCount, maxPositions }
      yield toBytes(narrow(positionBiasTable(await stored.readFloat32(), sizes), type))
    },
  )
  const length = graph.node('Squeeze', [sequence, graph.integers('axis.0', [0])], 'relative_bias.length')
  const range = [graph.integers('zero.index', 0), length, graph.integers('one.index', 1)]
  const places = graph.node('Range', range, 'relative_bias.places')
  const queries = graph.node('Unsqueeze', [places, graph.integers('axis.1', [1])], 'relative_bias.queries')
  const distances = graph.node('Sub', [places, queries], 'relative_bias.distances')
  const center = graph.integers('relative_bias.center', maxPositions - 1)
  const columns = graph.node('Add', [distances, center], 'relative_bias.columns')
  return graph.node('Gather', [table, columns], 'relative_bias', { axis: { int: 1 } })
}

interface Attention {
  readonly mask: string
  readonly bias: string | undefined
  /** int64 [batch, 1], the token whose hidden state alone is asked for; undefined: all. */
  readonly index: string | undefined
}

/** f32 [batch, sequence, hiddenSize], or [batch, 1, hiddenSize] of the one token. */
function attend(encoder: Encoder, layer: number, input: string, { mask, bias, index }: Attention): string {
  const { graph, shape, linears, type } = encoder
  const { hiddenSize, headCount, headSize, attentionNames: names } = shape
  const at = `layer.${layer}.attention`
  const stored = `encoder.layer.${layer}.attention`
  const width = headCount * headSize
  const all = graph.cast(input, 'float', type, `${at}.input`)
  const residual = index === undefined ? input : selectToken(graph, input, index, `${at}.residual`)
  const asking = index === undefined ? all : graph.cast(residual, 'float', type, `${at}.query.input`)
  const project = (part: 'query' | 'key' | 'value', perm: readonly number[]) => {
    const flat = linears.apply(part === 'query' ? asking : all, {
      name: `${at}.${part}`,
      inputName: `${at}.qkv`,
      stored: [`${stored}.${names[part]}`],
      inputs: hiddenSize,
      outputs: [width],
      hasBias: true,
    })
    // 0 keeps batch and sequence as they are.
    const heads = graph.integers('shape.heads', [0, 0, headCount, headSize])
    const split = graph.node('Reshape', [flat, heads], `${at}.${part}.heads`)
    return graph.node('Transpose', [split], `${at}.${part}.transposed`, { perm: { ints: perm } })
  }
  const query = project('query', [0, 2, 1, 3])
  const key = project('key', [0, 2, 3, 1])
  const value = project('value', [0, 2, 1, 3])
  const products = graph.node('MatMul', [query, key], `${at}.products`)
  const scale = graph.scalar('attention_scale', 1 / Math.sqrt(headSize), type)
  const scaled = graph.node('Mul', [products, scale], `${at}.scores`)
  const biased = bias === undefined ? scaled : graph.node('Add', [scaled, bias], `${at}.biased`)
  const masked = graph.node('Add', [biased, mask], `${at}.masked`)
  const weights = graph.node('Softmax', [masked], `${at}.weights`, { axis: { int: -1 } })
  const mixed = graph.node('MatMul', [weights, value], `${at}.mixed`)
  const back = graph.node('Transpose', [mixed], `${at}.mixed.transposed`, { perm: { ints: [0, 2, 1, 3] } })
  const joined = graph.node('Reshape', [back, graph.integers('shape.joined', [0, 0, width])], `${at}.joined`)
  const output = linears.apply(joined, {
    name: `${at}.dense`,
    stored: [`${stored}.${names.output}`],
    inputs: width,
    outputs: [hiddenSize],
    hasBias: true,
  })
  const sum = graph.node(
    'Add',
    [graph.cast(output, type, 'float', `${at}.dense.wide`), residual],
    `${at}.sum`,
  )
  return layerNorm(encoder, sum, `${stored}.${names.layerNorm}`, `${at}.output`)
}

function feedForward(encoder: Encoder, layer: number, input: string, outputName: string): string {
  const { graph, shape, linears, type } = encoder
  const { hiddenSize, intermediateSize } = shape
  const at = `layer.${layer}`
  const stored = `encoder.${at}`
  const up = linears.apply(graph.cast(input, 'float', type, `${at}.input`), {
    name: `${at}.up`,
    stored: [`${stored}.intermediate.dense`],
    inputs: hiddenSize,
    outputs: [intermediateSize],
    hasBias: true,
  })
  const { opType, attributes } = activations[shape.activation]
  const active = graph.node(opType, [up], `${at}.active`, attributes)
  const down = linears.apply(active, {
    name: `${at}.down`,
    stored: [`${stored}.output.dense`],
    inputs: intermediateSize,
    outputs: [hiddenSize],
    hasBias: true,
  })
  const sum = graph.node('Add', [graph.cast(down, type, 'float', `${at}.down.wide`), input], `${at}.sum`)
  return layerNorm(encoder, sum, `${stored}.output.LayerNorm`, outputName)
}

/** Over the last axis, f32 in and out. */
function layerNorm({ graph, shape, weights }: Encoder, input: string, stored: string, name: string): string {
  const size = [shape.hiddenSize]
  const load = (part: 'weight' | 'bias') => {
    const tensor = weights.get(`${stored}.${part}`, size)
    return () => loadAsStored(tensor, 'float')
  }
  const gamma = graph.weight(`${name}.gamma`, size, 'float', load('weight'))
  const beta = graph.weight(`${name}.beta`, size, 'float', load('bias'))
  const attributes = { axis: { int: -1 }, epsilon: { float: shape.layerNormEpsilon } }
  return graph.node('LayerNormalization', [input, gamma, beta], name, attributes)
}
