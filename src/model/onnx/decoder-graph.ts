import { addAmaxOutput } from './amax-output.ts'
import { type ArithmeticType, type GraphInput, type GraphOptions, maskedScore } from './arithmetic.ts'
import { toBytes } from './element-types.ts'
import { GraphBuilder, type OnnxGraph } from './graph-builder.ts'
import { Linears } from './linear.ts'
import type { ModelWeights } from './model-weights.ts'
import { meanOverTokens, pooledOutput, pooledTokenIndex, selectToken, tokensOutput } from './pooled-output.ts'
import { dataTypes } from './proto.ts'
import { loadAsStored } from './weight-loaders.ts'

/** Pre-norm decoders with RMSNorm, rotary positions, grouped queries and SwiGLU: Qwen3. */
export interface DecoderShape {
  readonly hiddenSize: number
  readonly layerCount: number
  readonly headCount: number
  readonly keyValueHeadCount: number
  readonly headSize: number
  readonly intermediateSize: number
  readonly vocabularySize: number
  readonly rmsNormEpsilon: number
  readonly ropeTheta: number
  readonly attentionBias: boolean
}

interface Decoder {
  readonly graph: GraphBuilder
  readonly shape: DecoderShape
  readonly weights: ModelWeights
  readonly linears: Linears
  readonly type: ArithmeticType
}

/** Cosines and sines of the rotation, [..., tokens, headSize]. */
interface Rotary {
  readonly cos: string
  readonly sin: string
}

/** The tokens whose hidden states a layer computes: all, or the one that becomes the vector. */
interface Queries {
  /** int64 [batch, 1]; undefined: all. */
  readonly index: string | undefined
  readonly rotary: Rotary
  /** Added to the scores, [1 or batch, 1, queries, sequence]. */
  readonly mask: string
}

/** input_ids (or inputs_embeds), attention_mask -> last_hidden_state f32 [batch, sequence, hiddenSize] or
 * sentence_embedding f32 [batch, hiddenSize]. Padding is at the end: a causal query never sees what stands after it, so
 * the padding needs no mask. Where one token becomes the vector, the last layer computes queries and MLP for it alone.
 * @throws {EmbedError} MODEL_FILE_CORRUPT (a tensor is missing or of another shape) */
export function buildDecoderGraph(
  shape: DecoderShape,
  weights: ModelWeights,
  options: GraphOptions,
): OnnxGraph {
  const { type, output, pooling } = options
  const graph = new GraphBuilder('decoder')
  const decoder = { graph, shape, weights, type, linears: new Linears(graph, weights, options) }
  const rows = embed(decoder, options.inputs)
  let hidden = graph.cast(rows, type, 'float', 'embeddings.wide')
  graph.input('attention_mask', 'int64', ['batch', 'sequence'])
  const positions = countPositions(graph)
  const rotary = rotate(decoder, positions)
  const allTokens: Queries = { index: undefined, rotary, mask: maskFuture(decoder, positions) }
  const index = output === 'pooled' ? pooledTokenIndex(graph, pooling) : undefined
  const lastQueries = index === undefined ? allTokens : selectQueries(decoder, rotary, index)
  for (let layer = 0; layer < shape.layerCount; layer++) {
    const queries = layer === shape.layerCount - 1 ? lastQueries : allTokens
    hidden = feedForward(decoder, layer, attend(decoder, layer, hidden, rotary, queries))
  }
  if (output === 'tokens') {
    graph.output(tokensOutput, 'float', ['batch', 'sequence', shape.hiddenSize])
    rmsNorm(decoder, hidden, 'norm', tokensOutput, { to: 'float' })
  } else {
    graph.output(pooledOutput, 'float', ['batch', shape.hiddenSize])
    const normed = rmsNorm(decoder, hidden, 'norm', 'final.output', { to: 'float' })
    if (index === undefined) meanOverTokens(graph, normed, pooledOutput)
    else graph.node('Squeeze', [normed, graph.integers('axis.1', [1])], pooledOutput)
  }
  const { inputs } = decoder.linears
  if (options.observe === true) addAmaxOutput(graph, inputs, type)
  return graph.build(inputs.keys())
}

function embed({ graph, shape, weights, type }: Decoder, inputs: GraphInput): string {
  const { hiddenSize, vocabularySize } = shape
  if (inputs === 'embeddings') return graph.input('inputs_embeds', type, ['batch', 'sequence', hiddenSize])
  graph.input('input_ids', 'int64', ['batch', 'sequence'])
  const tableShape = [vocabularySize, hiddenSize]
  const stored = weights.get('embed_tokens.weight', tableShape)
  const table = graph.weight('embeddings', tableShape, type, () => loadAsStored(stored, type))
  return graph.node('Gather', [table, 'input_ids'], 'embeddings.rows')
}

/** int64 [sequence]: 0, 1, 2, … */
function countPositions(graph: GraphBuilder): string {
  const axis = { start: { int: 1 }, end: { int: 2 } }
  const sequence = graph.node('Shape', ['attention_mask'], 'sequence_length', axis)
  const length = graph.node('Squeeze', [sequence, graph.integers('axis.0', [0])], 'positions.length')
  return graph.node('Range', [graph.integers('zero', 0), length, graph.integers('one', 1)], 'positions')
}

/** [sequence, headSize], computed in f32. */
function rotate({ graph, shape, type }: Decoder, positions: string): Rotary {
  const half = shape.headSize / 2
  const frequencies = graph.weight('rotary.frequencies', [1, half], 'float', async function* () {
    yield toBytes(Float32Array.from({ length: half }, (_, i) => shape.ropeTheta ** (-i / half)))
  })
  const column = graph.node('Unsqueeze', [positions, graph.integers('axis.1', [1])], 'rotary.positions')
  const wide = graph.node('Cast', [column], 'rotary.positions.wide', { to: { int: dataTypes.float } })
  const angles = graph.node('Mul', [wide, frequencies], 'rotary.angles')
  const both = graph.node('Concat', [angles, angles], 'rotary.angles.both', { axis: { int: -1 } })
  const cos = graph.node('Cos', [both], 'rotary.cos')
  const sin = graph.node('Sin', [both], 'rotary.sin')
  return {
    cos: graph.cast(cos, 'float', type, 'rotary.cos.narrow'),
    sin: graph.cast(sin, 'float', type, 'rotary.sin.narrow'),
  }
}

/** [1, 1, sequence, sequence]: a query sees the keys up to its own place. */
function maskFuture({ graph, type }: Decoder, positions: string): string {
  const keys = graph.node('Unsqueeze', [positions, graph.integers('axes.0.1.2', [0, 1, 2])], 'mask.keys')
  const queries = graph.node(
    'Unsqueeze',
    [positions, graph.integers('axes.0.1.3', [0, 1, 3])],
    'mask.queries',
  )
  const seen = graph.node('LessOrEqual', [keys, queries], 'mask.seen')
  return graph.node('Where', [seen, ...maskValues(graph, type)], 'mask.scores')
}

function maskValues(graph: GraphBuilder, type: ArithmeticType): [string, string] {
  return [graph.scalar('mask.zero', 0, type), graph.scalar('mask.masked', maskedScore, type)]
}

/** The query of one token a sequence; it sees the keys up to its own place. */
function selectQueries({ graph, type }: Decoder, rotary: Rotary, index: string): Queries {
  const axes = graph.integers('axis.1', [1])
  const rows = (table: string, output: string) => {
    const row = graph.node('Gather', [table, index], `${output}.rows`)
    return graph.node('Unsqueeze', [row, axes], output)
  }
  const lastPlace = graph.node('Unsqueeze', [index, graph.integers('axes.2.3', [2, 3])], 'pooled_token.place')
  const seen = graph.node('LessOrEqual', ['mask.keys', lastPlace], 'pooled_token.seen')
  return {
    index,
    rotary: { cos: rows(rotary.cos, 'pooled_token.cos'), sin: rows(rotary.sin, 'pooled_token.sin') },
    mask: graph.node('Where', [seen, ...maskValues(graph, type)], 'pooled_token.mask'),
  }
}

/** The residual stream, in f32, after attention: of all tokens, or [batch, 1, hiddenSize] of the one that is asked for. */
function attend(decoder: Decoder, layer: number, input: string, rotary: Rotary, queries: Queries): string {
  const { graph, shape, type } = decoder
  const { hiddenSize, headCount, keyValueHeadCount, headSize } = shape
  const at = `layer.${layer}.attention`
  const stored = `layers.${layer}.self_attn`
  const width = headCount * headSize
  const normed = rmsNorm(decoder, input, `layers.${layer}.input_layernorm`, `${at}.input`, { to: type })
  const projected = project(decoder, layer, normed, queries.index)
  const heads = (part: 'query' | 'key' | 'value', count: number) => {
    const split = graph.integers(`shape.heads.${count}`, [0, 0, count, headSize])
    return graph.node('Reshape', [projected[part], split], `${at}.${part}.heads`)
  }
  const transposed = (value: string, perm: readonly number[]) =>
    graph.node('Transpose', [value], `${value}.transposed`, { perm: { ints: perm } })
  const normedHeads = (part: 'query' | 'key', count: number) => {
    const norm = `${stored}.${part === 'query' ? 'q_norm' : 'k_norm'}`
    const normedPart = rmsNorm(decoder, heads(part, count), norm, `${at}.${part}.normed`, {
      from: type,
      to: type,
      size: headSize,
    })
    return transposed(normedPart, [0, 2, 1, 3])
  }
  const query = applyRotary(decoder, normedHeads('query', headCount), queries.rotary)
  const key = applyRotary(decoder, normedHeads('key', keyValueHeadCount), rotary)
  const value = transposed(heads('value', keyValueHeadCount), [0, 2, 1, 3])
  const scale = graph.scalar('attention_scale', 1 / Math.sqrt(headSize), type)
  const scaled = graph.node('Mul', [query, scale], `${at}.query.scaled`)
  const keys = transposed(repeatHeads(decoder, key), [0, 1, 3, 2])
  const products = graph.node('MatMul', [scaled, keys], `${at}.products`)
  const masked = graph.node('Add', [products, queries.mask], `${at}.masked`)
  const probabilities = graph.node('Softmax', [masked], `${at}.weights`, { axis: { int: -1 } })
  const mixed = graph.node('MatMul', [probabilities, repeatHeads(decoder, value)], `${at}.mixed`)
  const joined = graph.node(
    'Reshape',
    [transposed(mixed, [0, 2, 1, 3]), graph.integers('shape.joined', [0, 0, width])],
    `${at}.joined`,
  )
  const output = decoder.linears.apply(joined, {
    name: `${at}.dense`,
    stored: [`${stored}.o_proj`],
    inputs: width,
    outputs: [hiddenSize],
    hasBias: shape.attentionBias,
  })
  const { index } = queries
  const residual = index === undefined ? input : selectToken(graph, input, index, `${at}.residual`)
  return graph.node('Add', [residual, graph.cast(output, type, 'float', `${at}.dense.wide`)], `${at}.sum`)
}

/** Queries, keys and values in one product; where one token is asked for, its query apart from all keys and values. */
function project(
  { graph, shape, linears }: Decoder,
  layer: number,
  normed: string,
  index: string | undefined,
): Readonly<Record<'query' | 'key' | 'value', string>> {
  const { hiddenSize, headSize, attentionBias } = shape
  const at = `layer.${layer}.attention`
  const widths = { q: shape.headCount * headSize, k: shape.keyValueHeadCount * headSize }
  const apply = (input: string, name: string, parts: readonly ('q' | 'k' | 'v')[]) =>
    linears.apply(input, {
      name: `${at}.${name}`,
      inputName: `${at}.qkv`,
      stored: parts.map((part) => `layers.${layer}.self_attn.${part}_proj`),
      inputs: hiddenSize,
      outputs: parts.map((part) => (part === 'q' ? widths.q : widths.k)),
      hasBias: attentionBias,
    })
  if (index === undefined) {
    const qkv = apply(normed, 'qkv', ['q', 'k', 'v'])
    const names = ['query', 'key', 'value'].map((part) => `${at}.${part}`)
    const [query, key, value] = graph.split(qkv, [widths.q, widths.k, widths.k], names)
    return { query: query!, key: key!, value: value! }
  }
  const names = ['key', 'value'].map((part) => `${at}.${part}`)
  const [key, value] = graph.split(apply(normed, 'kv', ['k', 'v']), [widths.k, widths.k], names)
  const selected = selectToken(graph, normed, index, `${at}.query.input`)
  return { query: apply(selected, 'q', ['q']), key: key!, value: value! }
}

/** x cos + rotate_half(x) sin, as transformers lays the halves. */
function applyRotary({ graph, shape }: Decoder, input: string, { cos, sin }: Rotary): string {
  const half = shape.headSize / 2
  const [first, second] = graph.split(input, [half, half], [`${input}.first`, `${input}.second`])
  const negated = graph.node('Neg', [second!], `${input}.negated`)
  const turned = graph.node('Concat', [negated, first!], `${input}.turned`, { axis: { int: -1 } })
  const straight = graph.node('Mul', [input, cos], `${input}.cos`)
  return graph.node('Add', [straight, graph.node('Mul', [turned, sin], `${input}.sin`)], `${input}.rotated`)
}

/** Every key and value head serves as many query heads as there are to each. */
function repeatHeads({ graph, shape }: Decoder, input: string): string {
  const { headCount, keyValueHeadCount, headSize } = shape
  if (headCount === keyValueHeadCount) return input
  const apart = graph.node('Unsqueeze', [input, graph.integers('axis.2', [2])], `${input}.apart`)
  const counts = graph.integers('shape.repeats', [1, 1, headCount / keyValueHeadCount, 1, 1])
  const repeated = graph.node('Expand', [apart, counts], `${input}.repeated`)
  return graph.node(
    'Reshape',
    [repeated, graph.integers('shape.repeated', [0, headCount, -1, headSize])],
    `${input}.all_heads`,
  )
}

function feedForward(decoder: Decoder, layer: number, input: string): string {
  const { graph, shape, linears, type } = decoder
  const { hiddenSize, intermediateSize } = shape
  const at = `layer.${layer}`
  const stored = `layers.${layer}`
  const normed = rmsNorm(decoder, input, `${stored}.post_attention_layernorm`, `${at}.input`, { to: type })
  const both = linears.apply(normed, {
    name: `${at}.gate_up`,
    stored: [`${stored}.mlp.gate_proj`, `${stored}.mlp.up_proj`],
    inputs: hiddenSize,
    outputs: [intermediateSize, intermediateSize],
    hasBias: false,
  })
  const [gate, up] = graph.split(both, [intermediateSize, intermediateSize], [`${at}.gate`, `${at}.up`])
  const sigmoid = graph.node('Sigmoid', [gate!], `${at}.gate.sigmoid`)
  const active = graph.node(
    'Mul',
    [graph.node('Mul', [gate!, sigmoid], `${at}.gate.active`), up!],
    `${at}.active`,
  )
  const down = linears.apply(active, {
    name: `${at}.down`,
    stored: [`${stored}.mlp.down_proj`],
    inputs: intermediateSize,
    outputs: [hiddenSize],
    hasBias: false,
  })
  return graph.node('Add', [input, graph.cast(down, type, 'float', `${at}.down.wide`)], `${at}.output`)
}

/** x / sqrt(mean(x^2) + epsilon) * gamma over the last axis, in f32 whatever goes in. */
function rmsNorm(
  { graph, shape, weights }: Decoder,
  input: string,
  stored: string,
  name: string,
  {
    from = 'float',
    to,
    size = shape.hiddenSize,
  }: { from?: ArithmeticType; to: ArithmeticType; size?: number },
): string {
  const tensor = weights.get(`${stored}.weight`, [size])
  const gamma = graph.weight(`${name}.gamma`, [size], 'float', () => loadAsStored(tensor, 'float'))
  const wide = graph.cast(input, from, 'float', `${name}.wide`)
  const squares = graph.node('Pow', [wide, graph.scalar('two', 2)], `${name}.squares`)
  const mean = graph.node('ReduceMean', [squares, graph.integers('axis.last', [-1])], `${name}.mean`)
  const epsilon = graph.scalar('rms_norm_epsilon', shape.rmsNormEpsilon)
  const variance = graph.node('Add', [mean, epsilon], `${name}.variance`)
  const root = graph.node('Sqrt', [variance], `${name}.root`)
  const normed = graph.node('Div', [wide, root], `${name}.normed`)
  if (to === 'float') return graph.node('Mul', [normed, gamma], name)
  return graph.cast(graph.node('Mul', [normed, gamma], `${name}.scaled`), 'float', to, name)
}
