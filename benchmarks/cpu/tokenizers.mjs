// The tokenizer libraries for Node side by side, and our own tokenizer with and without its thread (needs dist/).
//   node benchmarks/cpu/tokenizers.mjs --model minilm=FOLDER/tokenizer.json,test/fixtures/tokenizer/minilm-l6-v2.json
// A model is NAME=TOKENIZER_JSON[,GOLDEN_JSON]; --model can be repeated. GOLDEN_JSON comes from
// test/fixtures/make-tokenizer-golden.py: ids of Python's `tokenizers`. --out FILE writes the JSON document too.
// A library that is not installed is skipped by name.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg } from 'node:os'
import { parseArgs } from 'node:util'

const { values: flags } = parseArgs({
  options: { model: { type: 'string', multiple: true, default: [] }, out: { type: 'string' } },
})
const repeats = 7
const prose =
  'The quick brown fox jumps over the lazy dog, while three retrieval engines embed naive queries. '
const chinese = '天地玄黄宇宙洪荒日月盈昃辰宿列张'
const loads = {
  '16 tokens': { text: prose.slice(0, 76), runs: 300 },
  '64 tokens': { text: prose.repeat(4).slice(0, 330), runs: 300 },
  '256 tokens': { text: prose.repeat(14).slice(0, 1320), runs: 100 },
  '1 MB English': { text: prose.repeat(12_000).slice(0, 1_000_000), runs: 1 },
  '1 MB Chinese': { text: chinese.repeat(25_000).slice(0, 333_333), runs: 1 },
}

/** Each: load(path) -> { encode(text) -> Promise of ids without special tokens, encodeWhole, decode }. */
const libraries = {
  async '@anush008/tokenizers'() {
    const { Tokenizer } = await import('@anush008/tokenizers')
    return (path) => {
      const tokenizer = Tokenizer.fromFile(path)
      tokenizer.disableTruncation()
      tokenizer.disablePadding()
      return {
        encode: async (text) => (await tokenizer.encode(text, null, { addSpecialTokens: false })).getIds(),
        encodeWhole: async (text) => (await tokenizer.encode(text)).getIds(),
        decode: (ids) => tokenizer.decode(ids, true),
      }
    }
  },
  async '@huggingface/tokenizers'() {
    const { Tokenizer } = await import('@huggingface/tokenizers')
    return (path) => {
      const file = { ...JSON.parse(readFileSync(path, 'utf8')), truncation: null, padding: null }
      const tokenizer = new Tokenizer(file, { clean_up_tokenization_spaces: false })
      return {
        encode: async (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
        encodeWhole: async (text) => tokenizer.encode(text).ids,
        decode: async (ids) => tokenizer.decode(ids, { skip_special_tokens: true }),
      }
    }
  },
}

const rows = []
const found = {}
for (const [name, open] of Object.entries(libraries)) {
  try {
    found[name] = await open()
  } catch (error) {
    console.log(`skipped ${name}: ${error.message.split('\n')[0]}`)
  }
}

for (const model of flags.model) {
  const [name, files] = model.split('=')
  const [path, golden] = files.split(',')
  await compareLibraries(name, path, golden)
  await compareThreads(name, path)
}

const document = {
  command: `node benchmarks/cpu/tokenizers.mjs ${flags.model.map((model) => `--model ${model.split('=')[0]}=...`).join(' ')}`,
  date: new Date().toISOString(),
  cpu: `${cpus()[0].model.trim()}, ${availableParallelism()} cores`,
  node: process.version,
  loadAverage: loadavg().map((value) => Number(value.toFixed(2))),
  rows,
}
console.log(JSON.stringify(document))
if (flags.out) writeFileSync(flags.out, `${JSON.stringify(document, null, 1)}\n`)

async function compareLibraries(model, path, golden) {
  const tokenizers = {}
  for (const [library, load] of Object.entries(found)) {
    const times = []
    for (let i = 0; i < repeats; i++) times.push(await timeMs(async () => (tokenizers[library] = load(path))))
    record({ model, library, measure: 'load', unit: 'ms', ...spread(times) })
  }
  if (golden)
    for (const library of Object.keys(found)) await checkIds(model, library, tokenizers[library], golden)
  for (const [load, { text, runs }] of Object.entries(loads)) {
    const times = Object.fromEntries(Object.keys(found).map((library) => [library, []]))
    const tokens = {}
    for (let round = 0; round <= repeats; round++) {
      for (const library of Object.keys(found)) {
        const ms = await timeMs(async () => {
          for (let i = 0; i < runs; i++) tokens[library] = (await tokenizers[library].encode(text)).length
        })
        if (round > 0) times[library].push((1000 * ms) / runs)
      }
    }
    for (const library of Object.keys(found)) {
      const measure = `encode ${load}`
      record({ model, library, measure, tokens: tokens[library], unit: 'us', ...spread(times[library]) })
    }
  }
}

async function checkIds(model, library, tokenizer, golden) {
  const { cases, versions } = JSON.parse(readFileSync(golden, 'utf8'))
  let texts = 0
  let wrongIds = 0
  let wrongDecodes = 0
  const examples = []
  for (const { text, times = 1, ids, decodedPlain } of cases) {
    if (!ids) continue
    const reference = ids.join()
    // A library's own handling of lone surrogates is not asked for here: the reference has U+FFFD.
    const whole = text.repeat(times).toWellFormed()
    const given = await tokenizer.encodeWhole(whole).catch((error) => [error.message])
    texts++
    if (given.join() !== reference) {
      wrongIds++
      if (examples.length < 3) examples.push(whole.slice(0, 40))
    }
    if (decodedPlain === undefined) continue
    const decoded = await tokenizer.decode(ids).catch((error) => error)
    if (decoded !== decodedPlain) wrongDecodes++
  }
  const reference = `Python tokenizers ${versions.tokenizers}`
  record({ model, library, measure: 'ids', reference, texts, wrongIds, wrongDecodes, examples })
}

/** The calling thread against a worker thread: the answer's latency, and how long the event loop was busy. */
async function compareThreads(model, tokenizerPath) {
  const built = new URL('../../dist/serving/tokenizer/worker-tokenizer.js', import.meta.url)
  if (!existsSync(built)) {
    console.log('skipped our tokenizer: dist/ is not built')
    return
  }
  const { createTokenizer } = await import(built.href)
  const ways = {
    'calling thread': await createTokenizer({ tokenizerPath, workerCount: 0 }),
    'worker thread': await createTokenizer({ tokenizerPath, workerCount: 1, inlineChars: -1 }),
  }
  const lists = {
    '1 x 76 characters': [1, 76],
    '1 x 330': [1, 330],
    '1 x 1320': [1, 1320],
    '1 x 4096': [1, 4096],
  }
  Object.assign(lists, {
    '32 x 330': [32, 330],
    '256 x 330': [256, 330],
    '2048 x 330': [2048, 330],
    '1 x 1 MB': [1, 1e6],
  })
  const text = prose.repeat(12_000)
  for (const [list, [count, chars]] of Object.entries(lists)) {
    const texts = Array.from({ length: count }, (_, i) => text.slice(i, i + chars))
    const runs = Math.max(repeats, Math.min(300, Math.floor(1e6 / (count * chars))))
    const latencies = { 'calling thread': [], 'worker thread': [] }
    const busy = { 'calling thread': [], 'worker thread': [] }
    for (let run = 0; run < runs + 2; run++) {
      for (const [way, tokenizer] of Object.entries(ways)) {
        const before = performance.eventLoopUtilization()
        const ms = await timeMs(() => tokenizer.encode(texts, { maxTokens: 1e7, truncation: 'right' }))
        const { active } = performance.eventLoopUtilization(before)
        if (run < 2) continue
        latencies[way].push(1000 * ms)
        busy[way].push(1000 * active)
      }
    }
    for (const way of Object.keys(ways)) {
      const measure = `list ${list}`
      const loopBusyUs = spread(busy[way]).median
      record({ model, library: `ours, ${way}`, measure, unit: 'us', ...spread(latencies[way]), loopBusyUs })
    }
  }
  for (const tokenizer of Object.values(ways)) await tokenizer[Symbol.asyncDispose]()
}

function record(row) {
  rows.push(row)
  const { model, library, measure, unit = '', median, p10, p90, ...rest } = row
  const time = median === undefined ? '' : `${median} ${unit} (${p10} to ${p90})`
  console.log(
    `${model.padEnd(8)} ${library.padEnd(24)} ${measure.padEnd(24)} ${time.padEnd(36)} ${toWords(rest)}`,
  )
}

function toWords(rest) {
  return Object.entries(rest)
    .map(([key, value]) => `${key} ${Array.isArray(value) ? JSON.stringify(value) : value}`)
    .join(', ')
}

async function timeMs(work) {
  const startMs = performance.now()
  await work()
  return performance.now() - startMs
}

function spread(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share) =>
    Number(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))].toFixed(2))
  return { median: at(0.5), p10: at(0.1), p90: at(0.9) }
}
