// The native engine end to end, from token ids to vectors: Qwen3 with random weights, no PyTorch, no TensorRT.
//   node benchmarks/gpu/native.mjs [--shape small|0.6b|4b] [--precision fp8-rowwise,fp8,bf16] [--rounds 50] [--graphs 64]
//     [--pass-tokens 16384] [--chunk-rows 4096] [--gpu-memory-bytes N] [--wait poll|thread]
//     [--no-overlap] [--few-rows] [--no-search] [--queries] [--mixed] [--trace] [--work FOLDER] [--folder FOLDER] [--cache FOLDER] [--vectors FILE] [--out FILE]
// First the truth: the small shape in each precision against a forward pass in f64 on the CPU. Then the times of the shape
// asked for (default 4b), with the memory of the whole GPU after each. 8 GB are written below --work (default the
// system's temporary folder) and removed; with --folder they stay there and are used again. With --cache kernels,
// algorithms and FP8 weights stay, and a second start is timed; what the first one writes when it is ready is waited for.
// --vectors: ids of texts of several lengths and their vectors go to a file, which native_torch.py compares with PyTorch;
// --rounds 0 for these alone. --no-overlap: a kernel starts when the one before is done. --few-rows: those of at most 16
// rows by our own kernel. --queries: short texts behind one instruction too, with it computed once and with each, at the
// first precision. --mixed: 4,000 texts of real lengths too. --trace: no graphs; each launch is told and waited for, and one that does not end ends the process. What
// is at work goes to stderr. Needs dist/, an NVIDIA driver, NVRTC and cuBLASLt. --gpu-memory-bytes: as the knob of that
// name. A precision that fails is a line that says why; exit code 1 then. One JSON line last.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openCudaEngine } from '../../dist/engines/cuda/cuda-engine.js'
import { cosine } from '../../dist/engines/vectors.js'
import { DiskCache } from '../../dist/hardware/gpu/disk-cache.js'
import { tellStage, traceLaunches } from './trace-launches.mjs'
import { measureMixed, measureQueries, pack } from './native-workloads.mjs'
import { findNativeLibraries } from './open-native.mjs'
import { referenceVector, shapes, writeSyntheticQwen3 } from './synthetic-qwen3.mjs'

const { values: flags } = parseArgs({
  options: {
    shape: { type: 'string', default: '4b' },
    precision: { type: 'string', default: 'fp8-rowwise,fp8,bf16' },
    rounds: { type: 'string', default: '50' },
    graphs: { type: 'string', default: '64' },
    queries: { type: 'boolean', default: false },
    mixed: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    wait: { type: 'string', default: 'poll' },
    'chunk-rows': { type: 'string', default: '4096' },
    'gpu-memory-bytes': { type: 'string' },
    'pass-tokens': { type: 'string', default: '16384' },
    work: { type: 'string', default: tmpdir() },
    folder: { type: 'string' },
    vectors: { type: 'string' },
    cache: { type: 'string' },
    'no-search': { type: 'boolean', default: false },
    'no-overlap': { type: 'boolean', default: false },
    'few-rows': { type: 'boolean', default: false },
    out: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  const head = readFileSync(new URL(import.meta.url), 'utf8').split('\nimport ')[0]
  console.log(head.replaceAll(/^\/\/ ?/gm, ''))
  process.exit(0)
}
if (shapes[flags.shape] === undefined) {
  console.error(`--shape ${flags.shape} is not known; known are ${Object.keys(shapes).join(', ')}`)
  process.exit(2)
}
const workloads = [
  { sequences: 1, tokens: 16 },
  { sequences: 1, tokens: 128 },
  { sequences: 1, tokens: 512 },
  { sequences: 8, tokens: 512 },
  { sequences: 32, tokens: 512 },
]
// The weights' outliers are 8 times their deviation, and the rows of the table are the first layer's input: 8 x 4.
const scales = { kind: 'fixed', scale: 32 / 448 }
const precisions = flags.precision.split(',')
const found = findNativeLibraries(flags)
const libraries = flags.trace ? traceLaunches(found) : found
const caches =
  flags.cache === undefined
    ? {}
    : {
        algorithmCache: new DiskCache(join(flags.cache, 'algorithms')),
        weightCacheFolder: join(flags.cache, 'weights'),
      }
const folder = mkdtempSync(join(flags.work, 'akidb-native-'))
const failures = []
/** By precision, of makeTexts. */
const vectors = {}
const record = {
  command: ['node', 'benchmarks/gpu/native.mjs', ...process.argv.slice(2)].join(' '),
  date: new Date().toISOString(),
  commit: process.env.COMMIT,
  node: process.version,
  truth: [],
  times: [],
  mixed: [],
}

try {
  if (flags.rounds !== '0') await attempt('truth', checkTruth)
  await attempt('times', measureTimes)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
record.loadAverage = loadavg()
record.failures = failures
for (const failure of failures) console.log(`FAILED: ${failure}`)
const line = JSON.stringify(record)
if (flags.out !== undefined) writeFileSync(flags.out, `${line}\n`)
console.log(line)
process.exit(failures.length === 0 ? 0 : 1)

async function checkTruth() {
  tellStage('truth: a forward pass in f64')
  const spec = writeSyntheticQwen3(join(folder, 'small'), shapes.small, 512)
  const sequences = [1, 5, 64, 65, 150].map((length, i) =>
    Array.from({ length }, (_, at) => (at * 7919 + i * 131 + 7) % 1000),
  )
  const expected = sequences.map((ids) => Float32Array.from(referenceVector(shapes.small, ids)))
  for (const precision of precisions) {
    await attempt(`truth at ${precision}`, async () => {
      tellStage(`truth at ${precision}: kernels and weights`)
      const engine = await open(spec, precision, { graphs: flags.trace ? 0 : 64 })
      // By plain launches, then recorded, then by the graph.
      for (const way of ['plain', 'recorded', 'graph']) {
        tellStage(`truth at ${precision}: ${way}`)
        const { values, dimensions } = await engine.embed(pack(sequences))
        const cosines = expected.map((vector, i) =>
          cosine(values.subarray(i * dimensions, (i + 1) * dimensions), vector),
        )
        record.truth.push({ precision, way, cosines })
        console.log(`${precision} ${way}: cosine to f64 ${cosines.map((each) => each.toFixed(6)).join(' ')}`)
        if (!(Math.min(...cosines) > (precision === 'bf16' ? 0.999 : 0.995)))
          failures.push(`${precision} ${way} is wrong`)
      }
      await engine[Symbol.asyncDispose]()
    })
  }
}

async function measureTimes() {
  const shape = shapes[flags.shape]
  const from = performance.now()
  tellStage(`${flags.shape}: weights are written`)
  const spec = writeSyntheticQwen3(flags.folder ?? join(folder, flags.shape), shape, 512)
  console.log(`${flags.shape}: weights there after ${((performance.now() - from) / 1e3).toFixed(1)} s`)
  for (const precision of precisions) {
    await attempt(`times at ${precision}`, async () => {
      const options = {
        graphs: flags.trace ? 0 : Number(flags.graphs),
        wait: flags.wait,
        chunkRows: Number(flags['chunk-rows']),
        maxPassTokens: Number(flags['pass-tokens']),
        memoryLimitBytes: flags['gpu-memory-bytes'] && Number(flags['gpu-memory-bytes']),
        warmUpShapes: flags['no-search'] ? [] : workloads,
      }
      // With a cache the start before the last one may have filled it; each of them is stated.
      const readyS = []
      let keptS
      let engine
      for (let i = 0; i < (flags.cache === undefined ? 1 : 2); i++) {
        await engine?.[Symbol.asyncDispose]()
        tellStage(`${precision}: weights are loaded, algorithms searched`)
        const openFrom = performance.now()
        engine = await open(spec, precision, options)
        readyS.push((performance.now() - openFrom) / 1e3)
        await engine.weightsKept
        keptS ??= (performance.now() - openFrom) / 1e3 - readyS[0]
      }
      const { device, runtimeVersion, memoryBytes } = engine.info
      console.log(
        `${precision} on ${device}, cuBLASLt ${runtimeVersion}: ready in ${readyS.map((s) => s.toFixed(1)).join(', then ')} s, weights kept ${keptS.toFixed(1)} s after the first; ${(memoryBytes / 2 ** 20).toFixed(0)} MiB`,
      )
      if (flags.vectors !== undefined) vectors[precision] = await embedTexts(engine, shape)
      for (const workload of flags.rounds === '0' ? [] : workloads) {
        tellStage(`${precision}: ${workload.sequences} x ${workload.tokens}`)
        const result = await measure(engine, workload)
        const memoryMib = readMemory(engine)
        record.times.push({ precision, ...workload, readyS, keptS, memoryBytes, ...result, memoryMib })
        console.log(
          `  ${workload.sequences} x ${workload.tokens}: p50 ${result.p50Ms.toFixed(2)} ms, p95 ${result.p95Ms.toFixed(2)} ms, ${result.textsPerSecond.toFixed(0)} texts/s, CPU ${result.cpuMs.toFixed(2)} ms; ${memoryMib.used} MiB of the GPU`,
        )
      }
      if (flags.mixed) {
        const paddedTextsPerSecond = record.times.at(-1)?.textsPerSecond
        const passTokens = Number(flags['pass-tokens'])
        const { vocabulary } = shape
        const mixed = await measureMixed(engine, { vocabulary, passTokens, paddedTextsPerSecond })
        record.mixed.push({ precision, ...mixed })
      }
      const { used, ...split } = readMemory(engine)
      console.log(
        `  of ${used} MiB: ${Object.entries(split)
          .map((each) => each.join(' '))
          .join(', ')}`,
      )
      await engine[Symbol.asyncDispose]()
    })
  }
  if (flags.queries) {
    await attempt('queries', async () => {
      tellStage('queries')
      const [precision] = precisions
      const rounds = Number(flags.rounds)
      const openWith = (options) => open(spec, precision, options)
      const queries = await measureQueries(openWith, { vocabulary: shape.vocabulary, rounds })
      record.queries = { precision, ...queries }
      if (!(queries.worstCosine > 0.999)) failures.push('a shared prefix changes the vectors')
    })
  }
  if (flags.vectors === undefined) return
  const ids = makeTexts(shape)
  const activationScale = scales.scale
  writeFileSync(flags.vectors, JSON.stringify({ shape: flags.shape, activationScale, ids, vectors }))
  console.log(
    `next: python3 benchmarks/gpu/native_torch.py --folder ${spec.folder} --vectors ${flags.vectors}`,
  )
}

/** Both sides of each step: a row, a tile of the attention, a multiple of the products' rows. */
function makeTexts({ vocabulary }) {
  return [1, 5, 16, 64, 65, 150, 512].map((length, i) =>
    Array.from({ length }, (_, at) => (at * 7919 + i * 104_729 + 11) % vocabulary),
  )
}

/** All texts in one batch, by the graph. */
async function embedTexts(engine, shape) {
  const batch = pack(makeTexts(shape))
  for (let i = 0; i < 2; i++) await engine.embed(batch)
  const { values, dimensions, rows } = await engine.embed(batch)
  return Array.from({ length: rows }, (_, i) => [...values.subarray(i * dimensions, (i + 1) * dimensions)])
}

function mib(bytes) {
  return Math.round(bytes / 2 ** 20)
}

/** What is used of the whole GPU, whoever uses it, and by what. The driver: its context, kernels, graphs, fragments. */
function readMemory({ memory }) {
  const [free, total] = [[null], [null]]
  libraries.cuda.cuMemGetInfo_v2(free, total)
  const used = mib(total[0] - free[0])
  const [weights, activations, workspace] = [
    memory.weightBytes,
    memory.activationBytes,
    memory.workspaceBytes,
  ].map(mib)
  return { used, weights, activations, workspace, driver: used - weights - activations - workspace }
}

async function measure(engine, { sequences, tokens }) {
  const vocabulary = shapes[flags.shape].vocabulary
  const idsOf = (sequence, seed) =>
    Array.from({ length: tokens }, (_, at) => (at * 7919 + sequence * 131 + seed * 17 + 5) % vocabulary)
  const makeIds = (seed) => [...Array(sequences).keys()].map((sequence) => idsOf(sequence, seed))
  const times = []
  let cpuUs = 0
  const rounds = Number(flags.rounds)
  for (let i = -3; i < rounds; i++) {
    const batch = pack(makeIds(i + 3))
    const cpu = process.cpuUsage()
    const from = performance.now()
    const { values, nonFiniteSequences } = await engine.embed(batch)
    const ms = performance.now() - from
    const used = process.cpuUsage(cpu)
    if (nonFiniteSequences.length > 0 || values[0] === 0)
      throw new Error(`NaN in ${nonFiniteSequences.length} of ${sequences} vectors`)
    if (i < 0) continue
    times.push(ms)
    cpuUs += used.user + used.system
  }
  const sorted = times.toSorted((a, b) => a - b)
  const totalMs = times.reduce((a, b) => a + b)
  return {
    p50Ms: sorted[sorted.length >> 1],
    p95Ms: sorted[Math.floor(sorted.length * 0.95)],
    textsPerSecond: (sequences * rounds * 1e3) / totalMs,
    // With --wait poll near the time itself.
    cpuMs: cpuUs / rounds / 1e3,
  }
}

function open(spec, precision, options) {
  const overlapping = flags['no-overlap'] ? false : undefined
  const fewRowsProducts = flags['few-rows']
  return openCudaEngine(
    { spec, precision, scales, overlapping, fewRowsProducts, ...caches, ...options },
    libraries,
  )
}

/** One failure must not stop the rest. */
async function attempt(what, run) {
  try {
    await run()
  } catch (error) {
    failures.push(`${what}: ${error?.stack ?? error}`)
    console.log(`${what} failed: ${String(error)}`)
  }
}
