import type { EncoderWeights } from './encoder-weights.ts'
import { GraphBuilder, type OnnxGraph } from './graph-builder.ts'
import { positionBiasTable } from './position-bias.ts'
import { dataTypes } from './proto.ts'
import { addInPlace, transpose } from './row-major.ts'

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

/** Added to the scores of padding: finite in bf16 and fp16 too, and far below any score. */
const maskedScore = -60_000

/** input_ids, attention_mask i64 [batch, sequence] -> last_hidden_state f32 [batch, sequence, hiddenSize].
 * Query, key and value stay three products: one fused product measured no faster in ONNX Runtime and left OpenVINO two
 * more passes at bf16. @throws {EmbedError} MODEL_FILE_CORRUPT (a tensor is missing or of another shape) */
export function buildEncoderGraph(shape: EncoderShape, weights: EncoderWeights): OnnxGraph {
  const graph = new GraphBuilder('encoder')
  const batchShape = ['batch', 'sequence']
  graph.input('input_ids', 'int64', batchShape)
  graph.input('attention_mask', 'int64', batchShape)
  graph.output('last_hidden_state', 'float', [...batchShape, shape.hiddenSize])
  const encoder = { graph, shape, weights }
  const sequence = graph.node('Shape', ['input_ids'], 'sequence_length', {
    start: { int: 1 },
    end: { int: 2 },
  })
  const mask = maskScores(graph)
  const bias =
    shape.relativeBucketCount === undefined
      ? undefined
      : relativeBias(encoder, shape.relativeBucketCount, sequence)
  let hidden = embed(encoder, sequence)
  for (let layer = 0; layer < shape.layerCount; layer++) {
    const output = layer === shape.layerCount - 1 ? 'last_hidden_state' : `layer.${layer}.output`
    const attended = attend(encoder, layer, hidden, mask, bias)
    hidden = feedForward(encoder, layer, attended, output)
  }
  return graph.build()
}

interface Encoder {
  readonly graph: GraphBuilder
  readonly shape: EncoderShape
  readonly weights: EncoderWeights
}

/** Word + position + type 0. The last two are one table: this package embeds single texts, never pairs. */
function embed(encoder: Encoder, sequence: string): string {
  const { graph, shape, weights } = encoder
  const { hiddenSize, vocabularySize, maxPositionEmbeddings, typeVocabularySize } = shape
  const wordShape = [vocabularySize, hiddenSize]
  const words = graph.weight(
    'embeddings.word',
    wordShape,
    weights.get('embeddings.word_embeddings.weight', wordShape),
  )
  const positionShape = [maxPositionEmbeddings, hiddenSize]
  const loadPositions = weights.get('embeddings.position_embeddings.weight', positionShape)
  const loadTypes =
    typeVocabularySize === 0
      ? undefined
      : weights.get('embeddings.token_type_embeddings.weight', [typeVocabularySize, hiddenSize])
  const positions = graph.weight('embeddings.position', positionShape, async () => {
    const table = await loadPositions()
    return loadTypes === undefined ? table : addInPlace(table, (await loadTypes()).subarray(0, hiddenSize))
  })
  const word = graph.node('Gather', [words, 'input_ids'], 'embeddings.word.rows')
  const position =
    shape.positionsAfterPadTokenId === undefined
      ? graph.node('Slice', [positions, graph.integers('axis.0', [0]), sequence], 'embeddings.position.rows')
      : graph.node(
          'Gather',
          [positions, countedPositions(graph, shape.positionsAfterPadTokenId)],
          'embeddings.position.rows',
        )
  const sum = graph.node('Add', [word, position], 'embeddings.sum')
  return layerNorm(encoder, sum, 'embeddings.LayerNorm', 'embeddings.output')
}

/** The n-th real token has position padTokenId + n, padding has padTokenId, on whichever side it is. */
function countedPositions(graph: GraphBuilder, padTokenId: number): string {
  const axis = graph.integers('axis.1.scalar', 1)
  const count = graph.node('CumSum', ['attention_mask', axis], 'embeddings.position.count')
  const real = graph.node('Mul', [count, 'attention_mask'], 'embeddings.position.real')
  return graph.node('Add', [real, graph.integers('pad_token_id', padTokenId)], 'embeddings.position.ids')
}

/** f32 [batch, 1, 1, sequence], added to the scores. */
function maskScores(graph: GraphBuilder): string {
  const wide = graph.node('Unsqueeze', ['attention_mask', graph.integers('axes.1.2', [1, 2])], 'mask.wide')
  const real = graph.node('Cast', [wide], 'mask.real', { to: { int: dataTypes.bool } })
  return graph.node(
    'Where',
    [real, graph.scalar('zero', 0), graph.scalar('masked_score', maskedScore)],
    'mask.scores',
  )
}

/** f32 [headCount, sequence, sequence], the same in every layer. */
function relativeBias({ graph, shape, weights }: Encoder, bucketCount: number, sequence: string): string {
  const { headCount, maxPositionEmbeddings: maxPositions } = shape
  const load = weights.get('encoder.relative_attention_bias.weight', [bucketCount, headCount])
  const table = graph.weight('relative_bias.table', [headCount, 2 * maxPositions - 1], async () =>
    positionBiasTable(await load(), { bucketCount, headCount, maxPositions }),
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

function attend(
  encoder: Encoder,
  layer: number,
  input: string,
  mask: string,
  bias: string | undefined,
): string {
  const { graph, shape } = encoder
  const { hiddenSize, headCount, headSize, attentionNames: names } = shape
  const at = `layer.${layer}.attention`
  const stored = `encoder.layer.${layer}.attention`
  const width = headCount * headSize
  const project = (part: 'query' | 'key' | 'value', perm: readonly number[]) => {
    const flat = linear(encoder, input, `${stored}.${names[part]}`, [hiddenSize, width], `${at}.${part}`)
    // 0 keeps batch and sequence as they are.
    const heads = graph.integers('shape.heads', [0, 0, headCount, headSize])
    const split = graph.node('Reshape', [flat, heads], `${at}.${part}.heads`)
    return graph.node('Transpose', [split], `${at}.${part}.transposed`, { perm: { ints: perm } })
  }
  const query = project('query', [0, 2, 1, 3])
  const key = project('key', [0, 2, 3, 1])
  const value = project('value', [0, 2, 1, 3])
  const products = graph.node('MatMul', [query, key], `${at}.products`)
  const scale = graph.scalar('attention_scale', 1 / Math.sqrt(headSize))
  const scaled = graph.node('Mul', [products, scale], `${at}.scores`)
  const biased = bias === undefined ? scaled : graph.node('Add', [scaled, bias], `${at}.biased`)
  const masked = graph.node('Add', [biased, mask], `${at}.masked`)
  const weights = graph.node('Softmax', [masked], `${at}.weights`, { axis: { int: -1 } })
  const mixed = graph.node('MatMul', [weights, value], `${at}.mixed`)
  const back = graph.node('Transpose', [mixed], `${at}.mixed.transposed`, { perm: { ints: [0, 2, 1, 3] } })
  const joined = graph.node('Reshape', [back, graph.integers('shape.joined', [0, 0, width])], `${at}.joined`)
  const output = linear(encoder, joined, `${stored}.${names.output}`, [width, hiddenSize], `${at}.dense`)
  const sum = graph.node('Add', [output, input], `${at}.sum`)
  return layerNorm(encoder, sum, `${stored}.${names.layerNorm}`, `${at}.output`)
}

function feedForward(encoder: Encoder, layer: number, input: string, outputName: string): string {
  const { graph, shape } = encoder
  const { hiddenSize, intermediateSize } = shape
  const at = `layer.${layer}`
  const stored = `encoder.${at}`
  const up = linear(
    encoder,
    input,
    `${stored}.intermediate.dense`,
    [hiddenSize, intermediateSize],
    `${at}.up`,
  )
  const { opType, attributes } = activations[shape.activation]
  const active = graph.node(opType, [up], `${at}.active`, attributes)
  const down = linear(encoder, active, `${stored}.output.dense`, [intermediateSize, hiddenSize], `${at}.down`)
  const sum = graph.node('Add', [down, input], `${at}.sum`)
  return layerNorm(encoder, sum, `${stored}.output.LayerNorm`, outputName)
}

/** torch stores [outputs, inputs]; MatMul takes [inputs, outputs]. */
function linear(
  { graph, weights }: Encoder,
  input: string,
  stored: string,
  [inputs, outputs]: readonly [number, number],
  name: string,
): string {
  const load = weights.get(`${stored}.weight`, [outputs, inputs])
  const weight = graph.weight(`${name}.weight`, [inputs, outputs], async () =>
    transpose(await load(), outputs, inputs),
  )
  const bias = graph.weight(`${name}.bias`, [outputs], weights.get(`${stored}.bias`, [outputs]))
  return graph.node('Add', [graph.node('MatMul', [input, weight], `${name}.product`), bias], name)
}

function layerNorm({ graph, shape, weights }: Encoder, input: string, stored: string, name: string): string {
  const size = [shape.hiddenSize]
  const gamma = graph.weight(`${name}.gamma`, size, weights.get(`${stored}.weight`, size))
  const beta = graph.weight(`${name}.beta`, size, weights.get(`${stored}.bias`, size))
  const attributes = { axis: { int: -1 }, epsilon: { float: shape.layerNormEpsilon } }
  return graph.node('LayerNormalization', [input, gamma, beta], name, attributes)
}
