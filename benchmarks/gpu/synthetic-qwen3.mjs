// A Qwen3 of any size with random weights of realistic scale, as a folder of safetensors; and its forward pass in f64.
import { closeSync, mkdirSync, openSync, readSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fromBf16 } from '../../dist/engines/cuda/checks/number-formats.js'
import { makeNormalBf16 } from '../../dist/engines/cuda/checks/random-values.js'

export const shapes = {
  small: { layers: 2, hidden: 256, heads: 4, kvHeads: 2, headSize: 128, intermediate: 768, vocabulary: 1000 },
  '0.6b': {
    layers: 28,
    hidden: 1024,
    heads: 16,
    kvHeads: 8,
    headSize: 128,
    intermediate: 3072,
    vocabulary: 151_936,
  },
  '4b': {
    layers: 36,
    hidden: 2560,
    heads: 32,
    kvHeads: 8,
    headSize: 128,
    intermediate: 9728,
    vocabulary: 151_936,
  },
}
/** Raised with every change of the weights' values. */
const generation = 3
const epsilon = 1e-6
const theta = 1_000_000

/** Names, shapes and seeds of all tensors, in the order of the file. */
function listTensors(shape) {
  const { layers, hidden, heads, kvHeads, headSize, intermediate, vocabulary } = shape
  const tensors = [['embed_tokens.weight', [vocabulary, hidden]]]
  for (let i = 0; i < layers; i++) {
    const add = (name, ...size) => tensors.push([`layers.${i}.${name}.weight`, size])
    add('input_layernorm', hidden)
    add('self_attn.q_proj', heads * headSize, hidden)
    add('self_attn.k_proj', kvHeads * headSize, hidden)
    add('self_attn.v_proj', kvHeads * headSize, hidden)
    add('self_attn.q_norm', headSize)
    add('self_attn.k_norm', headSize)
    add('self_attn.o_proj', hidden, heads * headSize)
    add('post_attention_layernorm', hidden)
    add('mlp.gate_proj', intermediate, hidden)
    add('mlp.up_proj', intermediate, hidden)
    add('mlp.down_proj', hidden, intermediate)
  }
  tensors.push(['norm.weight', [hidden]])
  // Tokens of deviation 1, matrices that keep the scale of their input; what is added to the residual stream is smaller the
  // more layers add, as models are initialised (GPT-2). Else layers drown the token, and make chaos of every rounding.
  const deviationOf = (name, inner) =>
    name === 'embed_tokens.weight'
      ? 1
      : 1 / Math.sqrt(/(?:o|down)_proj/.test(name) ? inner * 2 * layers : inner)
  return tensors.map(([name, size], seed) => ({
    name,
    size,
    seed,
    deviation: deviationOf(name, size[1]),
  }))
}

/** bf16: norms of one, all else about normal. */
function makeTensor({ size, seed, deviation }) {
  const count = size.reduce((product, each) => product * each, 1)
  if (size.length === 1) return new Uint16Array(count).fill(0x3f80)
  const table = tableOf(deviation)
  const values = new Uint16Array(count)
  // xorshift32, two values a step. No pattern may come again: layers that are alike apply one map many times, which blows
  // up what its rounding does in one direction.
  let state = Math.imul(seed + 1, 0x9e3779b1)
  for (let at = 0; at < count; at += 2) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    values[at] = table[state & 0xffff]
    values[at + 1] = table[state >>> 16]
  }
  return values
}

/** 65,536 values to pick from. */
function tableOf(deviation) {
  const table = tables.get(deviation) ?? makeNormalBf16(65_536, 1, deviation)
  tables.set(deviation, table)
  return table
}
const tables = new Map()

/** Writes the folder, or finds it there as it would be. @returns a ModelSpec, without hashing gigabytes */
export function writeSyntheticQwen3(folder, shape, maxTokens) {
  mkdirSync(folder, { recursive: true })
  const tensors = listTensors(shape)
  let end = 0
  const entries = tensors.map(({ name, size }) => {
    const begin = end
    end += size.reduce((product, each) => product * each, 1) * 2
    return [name, { dtype: 'BF16', shape: size, data_offsets: [begin, end] }]
  })
  const metadata = ['__metadata__', { format: 'pt', generation: String(generation) }]
  const json = JSON.stringify(Object.fromEntries([metadata, ...entries]))
  const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  const weights = join(folder, 'model.safetensors')
  const head = Buffer.concat([length, header])
  if (!isThere(weights, head, head.length + end)) {
    const file = openSync(weights, 'w')
    writeSync(file, head)
    for (const tensor of tensors) {
      const bytes = Buffer.from(makeTensor(tensor).buffer)
      for (let at = 0; at < bytes.length;)
        at += writeSync(file, bytes, at, Math.min(bytes.length - at, 1 << 30))
    }
    closeSync(file)
  }
  const config = join(folder, 'config.json')
  writeFileSync(
    config,
    JSON.stringify({
      model_type: 'qwen3',
      hidden_act: 'silu',
      hidden_size: shape.hidden,
      num_hidden_layers: shape.layers,
      num_attention_heads: shape.heads,
      num_key_value_heads: shape.kvHeads,
      head_dim: shape.headSize,
      intermediate_size: shape.intermediate,
      max_position_embeddings: 32_768,
      rms_norm_eps: epsilon,
      rope_theta: theta,
      vocab_size: shape.vocabulary,
      pad_token_id: 0,
    }),
  )
  return {
    id: 'synthetic',
    folder,
    architecture: 'qwen3',
    family: 'qwen3',
    hiddenSize: shape.hidden,
    layerCount: shape.layers,
    headCount: shape.heads,
    keyValueHeadCount: shape.kvHeads,
    headSize: shape.headSize,
    intermediateSize: shape.intermediate,
    vocabularySize: shape.vocabulary,
    maxTokens,
    padTokenId: 0,
    pooling: 'last-token',
    normalize: true,
    dimensions: shape.hidden,
    prompts: {},
    defaultPromptName: undefined,
    files: { config, tokenizer: config, weights: [weights], onnx: undefined },
    contentHash: createHash('sha256').update(json).digest('hex'),
  }
}

/** Whether the file begins so and is that long: one that was cut short is not. */
function isThere(path, head, fileBytes) {
  if (statSync(path, { throwIfNoEntry: false })?.size !== fileBytes) return false
  const file = openSync(path, 'r')
  const own = Buffer.alloc(head.length)
  readSync(file, own, 0, own.length, 0)
  closeSync(file)
  return own.equals(head)
}

/** The pooled, normalised vector of one sequence, in f64 on the CPU: for small shapes. */
export function referenceVector(shape, ids) {
  const { layers, hidden, heads, kvHeads, headSize } = shape
  const tensors = new Map(listTensors(shape).map((tensor) => [tensor.name, tensor]))
  const read = (name) => fromBf16(makeTensor(tensors.get(`${name}.weight`)))
  const table = read('embed_tokens')
  let rows = ids.map((id) => Float64Array.from(table.subarray(id * hidden, (id + 1) * hidden)))
  for (let i = 0; i < layers; i++) {
    const at = `layers.${i}`
    const [q, k, v] = ['q', 'k', 'v'].map((part) => {
      const matrix = read(`${at}.self_attn.${part}_proj`)
      return rows.map((row) => multiply(matrix, normalize(row)))
    })
    for (const [position] of rows.entries()) {
      for (let head = 0; head < heads; head++) rotate(slice(q[position], head, headSize), position)
      for (let head = 0; head < kvHeads; head++) rotate(slice(k[position], head, headSize), position)
    }
    const output = read(`${at}.self_attn.o_proj`)
    const mixed = rows.map((_, position) => attend(q, k, v, position, shape))
    rows = rows.map((row, position) => sum(row, multiply(output, mixed[position])))
    const [gate, up, down] = ['gate', 'up', 'down'].map((part) => read(`${at}.mlp.${part}_proj`))
    rows = rows.map((row) => {
      const normed = normalize(row)
      const [gates, ups] = [multiply(gate, normed), multiply(up, normed)]
      return sum(
        row,
        multiply(
          down,
          gates.map((value, j) => (value / (1 + Math.exp(-value))) * ups[j]),
        ),
      )
    })
  }
  const last = normalize(rows.at(-1))
  const length = Math.hypot(...last)
  return last.map((value) => value / length)
}

function attend(q, k, v, position, { heads, kvHeads, headSize }) {
  const out = new Float64Array(heads * headSize)
  for (let head = 0; head < heads; head++) {
    const kvHead = Math.floor(head / (heads / kvHeads))
    const query = slice(q[position], head, headSize)
    const scores = Float64Array.from(
      { length: position + 1 },
      (_, key) => dot(query, slice(k[key], kvHead, headSize)) / Math.sqrt(headSize),
    )
    const highest = Math.max(...scores)
    const weights = scores.map((score) => Math.exp(score - highest))
    const total = weights.reduce((a, b) => a + b)
    for (const [key, weight] of weights.entries()) {
      const value = slice(v[key], kvHead, headSize)
      for (let d = 0; d < headSize; d++) out[head * headSize + d] += (weight / total) * value[d]
    }
  }
  return out
}

/** RMSNorm of the head, then its rotation, in place. */
function rotate(head, position) {
  head.set(normalize(head))
  const half = head.length / 2
  for (let i = 0; i < half; i++) {
    const angle = position * theta ** (-i / half)
    const [low, high] = [head[i], head[i + half]]
    head[i] = low * Math.cos(angle) - high * Math.sin(angle)
    head[i + half] = high * Math.cos(angle) + low * Math.sin(angle)
  }
}

/** All norms are ones. */
function normalize(row) {
  const factor = 1 / Math.sqrt(dot(row, row) / row.length + epsilon)
  return row.map((value) => value * factor)
}

function multiply(matrix, row) {
  const inner = row.length
  return Float64Array.from({ length: matrix.length / inner }, (_, i) =>
    dot(matrix.subarray(i * inner, (i + 1) * inner), row),
  )
}

function slice(values, index, size) {
  return values.subarray(index * size, (index + 1) * size)
}

function sum(a, b) {
  return a.map((value, i) => value + b[i])
}

function dot(a, b) {
  let total = 0
  for (let i = 0; i < a.length; i++) total += a[i] * b[i]
  return total
}
