// The same work without HTTP: text in, normalised vectors out, in one process each; interleaved rounds.
//   node benchmarks/cpu/in-process.mjs [--rounds 5] [--seconds 3] [--out FILE]
// Peers: a plain onnxruntime-node loop, one text at a time and in batches, on the same ONNX file and threads;
// transformers.js when TRANSFORMERS_JS names the folder that holds node_modules/@huggingface/transformers and
// TRANSFORMERS_MODEL the model's folder with onnx/model.onnx.
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism, cpus, homedir, loadavg } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { cosine } from '../../dist/engines/vectors.js'
import { createEmbedder } from '../../dist/index.js'
import { defaultCacheDir } from '../../dist/model/cache-dir.js'
import { ensureOnnx } from '../../dist/model/onnx-file.js'
import { pullModel } from '../../dist/model/pull.js'
import { loadModelSpec } from '../../dist/model/spec.js'
import { createTokenizer } from '../../dist/serving/tokenizer/worker-tokenizer.js'
import { median, percentile } from './load-client.mjs'
import { makeTexts } from './texts.mjs'

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    out: { type: 'string' },
  },
})
const rounds = Number(flags.rounds)
const durationMs = Number(flags.seconds) * 1000
const cacheDir = defaultCacheDir(process.env, homedir())
const model = await pullModel('sentence-transformers/all-MiniLM-L6-v2', { cacheDir })
const spec = await loadModelSpec(model.folder, { id: model.id, cacheDir })
const tokenizer = await createTokenizer({ tokenizerPath: spec.files.tokenizer, workerCount: 0 })

const workloads = [
  { name: '1 x 16', tokens: 16, texts: 1, calls: 1 },
  { name: '1 x 128', tokens: 128, texts: 1, calls: 1 },
  { name: '1 x 256', tokens: 256, texts: 1, calls: 1 },
  { name: '32 x 128', tokens: 128, texts: 32, calls: 1 },
  { name: '16 callers x 64', tokens: 64, texts: 1, calls: 16 },
]
const texts = new Map()
for (const tokens of new Set(workloads.map((workload) => workload.tokens)))
  texts.set(tokens, await makeTexts(tokenizer, tokens, 64))

const embedders = [await createEmbedder({ cacheDir }), await createEmbedder({ cacheDir, engine: 'onnx' })]
const skipped = []
const contenders = [
  ...embedders.map((embedder) => ({
    name: `akidb ${embedder.engine.name} ${embedder.engine.precision}`,
    embed: (list) => embedder.embed(list),
  })),
  { name: 'onnxruntime-node loop', embed: await createPlainLoop() },
  ...(await createTransformersJs()),
]
const rows = contenders.map(({ name }) => ({
  name,
  workloads: Object.fromEntries(
    workloads.map((workload) => [workload.name, { p50Ms: [], textsPerSecond: [] }]),
  ),
}))
for (let round = 0; round < rounds; round++) {
  for (const workload of workloads) {
    for (let k = 0; k < contenders.length; k++) {
      const i = (k + round) % contenders.length
      const { latenciesMs, elapsedMs } = await measure(contenders[i].embed, workload)
      const row = rows[i].workloads[workload.name]
      row.p50Ms.push(percentile(latenciesMs, 0.5))
      row.textsPerSecond.push((latenciesMs.length * workload.texts * 1000) / elapsedMs)
    }
  }
  console.error(`round ${round + 1} of ${rounds}, load average ${loadavg()[0].toFixed(2)}`)
}
for (const [i, { embed }] of contenders.entries()) rows[i].worstCosine = await worstCosine(embed)
for (const owned of [...embedders, tokenizer]) await owned[Symbol.asyncDispose]()

const summarise = (values) => ({ median: median(values), min: Math.min(...values), max: Math.max(...values) })
const record = {
  command: `node benchmarks/cpu/in-process.mjs --rounds ${rounds} --seconds ${flags.seconds}`,
  date: new Date().toISOString(),
  commit: process.env.COMMIT ?? execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim(),
  cpu: `${cpus()[0].model}, ${cpus().length} cores`,
  node: process.version,
  loadAverage: loadavg(),
  skipped,
  rows: rows.map((row) => ({
    ...row,
    workloads: Object.fromEntries(
      Object.entries(row.workloads).map(([name, { p50Ms, textsPerSecond }]) => [
        name,
        { p50Ms: summarise(p50Ms), textsPerSecond: summarise(textsPerSecond) },
      ]),
    ),
  })),
}
for (const workload of workloads) {
  console.log(`\n${workload.name}: texts/s, p50 ms; median (min-max) of ${rounds} rounds`)
  for (const row of record.rows) {
    const { textsPerSecond: rate, p50Ms } = row.workloads[workload.name]
    console.log(`  ${row.name.padEnd(24)} ${cell(rate, 1).padEnd(24)} ${cell(p50Ms, 2)}`)
  }
}
console.log('\nworst cosine to the loop, one text at a time')
for (const row of record.rows) console.log(`  ${row.name.padEnd(24)} ${row.worstCosine.toFixed(6)}`)
if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(record, null, 1)}\n`)
console.log(JSON.stringify(record))

async function measure(embed, { tokens, texts: size, calls }) {
  const all = texts.get(tokens)
  const warmUntilMs = performance.now() + 300
  while (performance.now() < warmUntilMs) await embed(all.slice(0, size))
  const startMs = performance.now()
  const latenciesMs = []
  let next = 0
  await Promise.all(
    Array.from({ length: calls }, async () => {
      while (performance.now() - startMs < durationMs) {
        const from = (next++ * size) % all.length
        const sentMs = performance.now()
        await embed(all.slice(from, from + size))
        latenciesMs.push(performance.now() - sentMs)
      }
    }),
  )
  return { latenciesMs, elapsedMs: performance.now() - startMs }
}

/** What a developer writes first: tokenise, pad, run, mean, normalise; concurrent calls wait for each other. */
async function createPlainLoop() {
  const { InferenceSession, Tensor } = await import('onnxruntime-node')
  const session = await InferenceSession.create(await ensureOnnx(spec, cacheDir), {
    intraOpNumThreads: availableParallelism(),
  })
  let last = Promise.resolve()
  const run = async (list) => {
    const encoded = await tokenizer.encode(list, { maxTokens: spec.maxTokens, truncation: 'right' })
    const length = Math.max(...encoded.map(({ ids }) => ids.length))
    const ids = new BigInt64Array(list.length * length)
    const mask = new BigInt64Array(list.length * length)
    for (const [row, input] of encoded.entries()) {
      for (const [at, id] of input.ids.entries()) ids[row * length + at] = BigInt(id)
      mask.fill(1n, row * length, row * length + input.ids.length)
    }
    const shape = [list.length, length]
    const { last_hidden_state: hidden } = await session.run({
      input_ids: new Tensor('int64', ids, shape),
      attention_mask: new Tensor('int64', mask, shape),
    })
    return encoded.map((input, row) => {
      const vector = new Float32Array(spec.hiddenSize)
      for (let at = 0; at < input.ids.length; at++) {
        for (let k = 0; k < vector.length; k++)
          vector[k] += hidden.data[(row * length + at) * vector.length + k]
      }
      const norm = Math.hypot(...vector)
      return vector.map((value) => value / norm)
    })
  }
  return (list) => {
    const result = last.then(() => run(list))
    last = result.then(() => undefined)
    return result
  }
}

async function createTransformersJs() {
  const { TRANSFORMERS_JS: folder, TRANSFORMERS_MODEL: path } = process.env
  if (folder === undefined || path === undefined || !existsSync(folder) || !existsSync(path)) {
    skipped.push({
      name: 'transformers.js',
      missing: 'TRANSFORMERS_JS, TRANSFORMERS_MODEL not set or not there',
    })
    return []
  }
  const entry = createRequire(pathToFileURL(join(folder, 'package.json'))).resolve(
    '@huggingface/transformers',
  )
  const { env, pipeline } = await import(pathToFileURL(entry).href)
  Object.assign(env, { localModelPath: dirname(path), allowRemoteModels: false })
  const extract = await pipeline('feature-extraction', basename(path), {
    dtype: 'fp32',
    session_options: { intraOpNumThreads: availableParallelism() },
  })
  const embed = async (list) => {
    const { data, dims } = await extract(list, { pooling: 'mean', normalize: true })
    return list.map((_, row) => data.slice(row * dims[1], (row + 1) * dims[1]))
  }
  return [{ name: 'transformers.js fp32', embed }]
}

async function worstCosine(embed) {
  const reference = contenders.find(({ name }) => name === 'onnxruntime-node loop').embed
  let worst = 1
  for (const list of texts.values()) {
    const inBatch = await embed(list.slice(0, 32))
    for (const [i, text] of list.slice(0, 32).entries()) {
      const [expected] = await reference([text])
      worst = Math.min(worst, cosine(inBatch[i], expected), cosine((await embed([text]))[0], expected))
    }
  }
  return worst
}

/** 'median (min-max)' */
function cell({ median: middle, min, max }, digits) {
  return `${middle.toFixed(digits)} (${min.toFixed(digits)}-${max.toFixed(digits)})`
}
