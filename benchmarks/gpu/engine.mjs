// The TensorRT engine end to end: token ids -> pinned memory -> GPU -> pinned memory -> vectors. Latency and throughput by
// shape, CUDA graphs beside plain enqueues, polling beside a sleeping thread, pinned beside pageable copies, overlap by the
// GPU's clock, memory.
//   node benchmarks/gpu/engine.mjs --plan FILE [--plan FILE ...]         plans that are there
//   node benchmarks/gpu/engine.mjs --onnx FILE [--profiles 1/1/1,8/16/32] [--tokens 512] [--min-tokens 1]   built first
// Rows compare with a peer on the same ONNX file: batch, seq, p50, p95, emb_s. Needs dist/, a driver and TensorRT (found as
// doctor does, LD_LIBRARY_PATH first). Prints a table, then one JSON line; exit code 1 when a check fails.
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { loadPlan } from '../../dist/engines/tensorrt/loaded-plan.js'
import { createTensorrtEngine } from '../../dist/engines/tensorrt/tensorrt-engine.js'
import { cosine } from '../../dist/engines/vectors.js'
import { loadCuda } from '../../dist/hardware/ffi/cuda.js'
import { Builder } from '../../dist/hardware/ffi/tensorrt/builder.js'
import { OnnxParser } from '../../dist/hardware/ffi/tensorrt/onnx-parser.js'
import { Runtime } from '../../dist/hardware/ffi/tensorrt/runtime.js'
import { loadTensorrt } from '../../dist/hardware/ffi/tensorrt/tensorrt.js'
import { openGpu } from '../../dist/hardware/gpu/context.js'
import { DeviceBuffer } from '../../dist/hardware/gpu/device-buffer.js'
import { PinnedBuffer } from '../../dist/hardware/gpu/pinned-buffer.js'
import { GpuStream } from '../../dist/hardware/gpu/stream.js'
import { findCudaLibrary } from '../../dist/hardware/machine/cuda-libraries.js'
import { measureMixed } from './native-workloads.mjs'

const options = {
  plan: { type: 'string', multiple: true, help: 'FILE: a plan; several belong together' },
  onnx: { type: 'string', help: 'FILE: build a plan of it first' },
  profiles: { type: 'string', default: '1/1/1,8/16/32', help: 'min/opt/max of the batch size, for --onnx' },
  tokens: { type: 'string', default: '512', help: 'most tokens, for --onnx' },
  'min-tokens': {
    type: 'string',
    help: 'least tokens of the profiles (default: those of --tokens), for --onnx',
  },
  level: { type: 'string', default: '3', help: 'builder optimization level, for --onnx' },
  shapes: {
    type: 'string',
    default: '1x16,1x128,1x512,8x512,32x512',
    help: 'batch size x tokens; those that no profile holds are left out',
  },
  rounds: { type: 'string', default: '100', help: 'batches a figure; a quarter from 8 texts on' },
  lanes: { type: 'string', default: '2', help: 'batches under way at once' },
  vocabulary: { type: 'string', default: '30000', help: 'ids are random below this' },
  'pad-token': { type: 'string', default: '0', help: 'id of padding' },
  mixed: { type: 'boolean', default: false, help: 'the 4,000 texts of native.mjs --mixed too, by graphs' },
  label: { type: 'string', help: 'what the model is, for the record' },
  out: { type: 'string', help: 'FILE: the JSON line once more' },
  help: { type: 'boolean', default: false, help: 'this' },
}
const { values: flags } = parseArgs({ options })
if (flags.help || (flags.plan === undefined) === (flags.onnx === undefined)) {
  for (const [name, { help, default: value }] of Object.entries(options)) {
    console.log(
      `  --${name.padEnd(12)} ${help}${value === undefined || value === false ? '' : ` (default ${value})`}`,
    )
  }
  process.exit(flags.help ? 0 : 2)
}

const rounds = Number(flags.rounds)
const failures = []
const folder = mkdtempSync(join(tmpdir(), 'engine-bench-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const search = { libraryPath: process.env.LD_LIBRARY_PATH, cudaHome: process.env.CUDA_HOME }
const pathOf = (name) => findCudaLibrary(name, search).found?.path
const cuda = loadCuda(pathOf('libcuda') ?? 'libcuda.so.1')
const gpu = await openGpu(cuda)
const tensorrt = loadTensorrt(
  { infer: pathOf('libnvinfer') ?? 'libnvinfer.so.10', onnxParser: pathOf('libnvonnxparser') },
  cuda,
)
tensorrt.logger.listen(({ severity, text }) => console.log(`  [${severity}] ${text.slice(0, 200)}`), 'error')
const record = {
  command: `node benchmarks/gpu/engine.mjs ${process.argv.slice(2).join(' ')}`,
  date: new Date().toISOString(),
  commit: process.env.COMMIT,
  node: process.version,
  gpu: gpu.device.name,
  tensorrt: tensorrt.versionText,
  label: flags.label,
  loadAverage: loadavg(),
  usedMibBefore: usedMib(),
}
say('machine', `${gpu.device.name}, TensorRT ${tensorrt.versionText}, load ${loadavg()[0].toFixed(2)}`)
say('memory of the GPU', `${record.usedMibBefore} MiB used before the engine`)

const plans = flags.plan === undefined ? [await build()] : await Promise.all(flags.plan.map(describePlan))
const spec = {
  hiddenSize: 0,
  padTokenId: Number(flags['pad-token']),
  pooling: 'mean',
  maxTokens: Infinity,
  files: { weights: [] },
}
const shapes = flags.shapes.split(',').map((shape) => shape.split('x').map(Number))

record.graph = await measureEngine('graph', { graphs: 32 })
record.plain = await measureEngine('plain', { graphs: 0 })
record.thread = await measureEngine('thread', { graphs: 32, wait: 'thread' })
compareVectors()
record.copies = await measureCopies()
printTable()

gpu[Symbol.dispose]()
record.liveObjects = tensorrt.children.count
check('no TensorRT object is left', record.liveObjects === 0, String(record.liveObjects))
for (const failure of failures) console.log(`FAILED: ${failure}`)
record.failures = failures
for (const mode of [record.graph, record.plain, record.thread]) delete mode.vectors
const json = JSON.stringify(record)
if (flags.out !== undefined) writeFileSync(flags.out, `${json}\n`)
console.log(json)
process.exit(failures.length === 0 ? 0 : 1)

/** One engine from start to end: latency one batch after the other, throughput with every lane in use. */
async function measureEngine(mode, engineOptions) {
  const stageTimes = []
  let isListening = false
  const before = usedMib()
  const from = performance.now()
  const engine = await createTensorrtEngine({
    spec,
    machine: { cuda, tensorrt },
    plans,
    lanes: Number(flags.lanes),
    onNote: (note) => check('the engine has nothing to note', false, note),
    onStageTimes: mode === 'graph' ? (times) => isListening && stageTimes.push(times) : undefined,
    ...engineOptions,
  })
  const result = {
    openMs: performance.now() - from,
    memoryBytes: engine.info.memoryBytes,
    usedMib: usedMib() - before,
    vectors: [],
    rows: [],
  }
  say(
    `engine, ${mode}`,
    `open in ${(result.openMs / 1e3).toFixed(1)} s, ${result.usedMib} MiB of the GPU more, by itself ${(result.memoryBytes / 2 ** 20).toFixed(0)} MiB`,
  )
  for (const [batchSize, tokens] of shapes) {
    if (batchSize > engine.info.maxBatchSize || tokens > engine.info.maxTokens) continue
    const batch = makeBatch(batchSize, tokens, 1)
    const count = Math.max(10, batchSize >= 8 ? Math.round(rounds / 4) : rounds)
    for (let i = 0; i < 5; i++) await embed(engine, batch)
    const cpu = process.cpuUsage()
    const times = []
    for (let i = 0; i < count; i++) {
      const start = performance.now()
      await embed(engine, batch)
      times.push(performance.now() - start)
    }
    const { user, system } = process.cpuUsage(cpu)
    // Every lane has run the shape before it counts.
    for (let i = 0; i < 3; i++) {
      await Promise.all(Array.from({ length: Number(flags.lanes) }, () => embed(engine, batch)))
    }
    isListening = true
    const wallFrom = performance.now()
    await Promise.all(
      Array.from({ length: Number(flags.lanes) + 1 }, async () => {
        for (let i = 0; i < count / 2; i++) await embed(engine, batch)
      }),
    )
    const wallMs = performance.now() - wallFrom
    isListening = false
    const batches = Math.ceil(count / 2) * (Number(flags.lanes) + 1)
    const { values } = await embed(engine, batch)
    result.vectors.push(values.slice())
    const row = {
      api: 'akidb-embedding tensorrt',
      mode,
      batch: batchSize,
      seq: tokens,
      p50: quantile(times, 0.5),
      p95: quantile(times, 0.95),
      p99: quantile(times, 0.99),
      emb_s: (batchSize * 1e3) / (times.reduce((sum, ms) => sum + ms, 0) / times.length),
      lanes_emb_s: (batchSize * batches * 1e3) / wallMs,
      // Polling takes all of a core while it waits; of 'thread' this is what the work itself takes.
      cpuMsPerBatch: (user + system) / 1e3 / count,
      used_mib: usedMib(),
      norm: Math.hypot(...values.subarray(0, values.length / batchSize)),
      overlap: mode === 'graph' ? describeOverlap(stageTimes.splice(0)) : undefined,
    }
    check(
      `${batchSize}x${tokens} ${mode}: vectors are finite and not zero`,
      row.norm > 0 && values.every(Number.isFinite),
    )
    result.rows.push(row)
  }
  if (flags.mixed && mode === 'graph') {
    result.mixed = await measureMixed(engine, {
      vocabulary: Number(flags.vocabulary),
      passTokens: 16_384,
      paddedTextsPerSecond: result.rows.find(({ batch, seq }) => batch === 32 && seq === 512)?.emb_s,
    })
  }
  const metrics = Object.fromEntries(engine.metrics.map((metric) => [metric.name, metric.read()]))
  result.launches = metrics.embed_gpu_launches_total
  result.graphs = metrics.embed_gpu_graphs
  await engine[Symbol.asyncDispose]()
  result.usedMibAfter = usedMib()
  // What libraries load with the first engine stays.
  const expected = record.graph?.usedMibAfter ?? Infinity
  check(
    `${mode}: the GPU's memory comes back`,
    result.usedMibAfter - expected < 64,
    `${expected} MiB after the first engine, ${result.usedMibAfter} after this one`,
  )
  return result
}

function embed(engine, batch) {
  return engine.embed(batch, { normalize: false })
}

function isBeside(a, b) {
  return a !== undefined && a.fromMs < b.toMs && b.fromMs < a.toMs
}

/** How many copies in and out ran while another batch computed, by the GPU's clock. */
function describeOverlap(times) {
  const count = (stage) =>
    times.filter((own) => times.some((other) => other !== own && isBeside(own[stage], other.compute))).length
  const duration = (stage) =>
    quantile(
      times.map((each) => each[stage].toMs - each[stage].fromMs),
      0.5,
    )
  const sorted = times.toSorted((a, b) => a.compute.fromMs - b.compute.fromMs)
  const gaps = sorted.slice(1).map((each, i) => each.compute.fromMs - sorted[i].compute.toMs)
  return {
    batches: times.length,
    h2dBesideCompute: count('h2d'),
    d2hBesideCompute: count('d2h'),
    h2dMs: duration('h2d'),
    computeMs: duration('compute'),
    d2hMs: duration('d2h'),
    idleBetweenMs: quantile(gaps, 0.5),
  }
}

/** Ids and mask in, vectors out, as the engine copies them, beside the same from pageable memory. */
async function measureCopies() {
  const stream = new GpuStream(gpu, 'copies')
  const dimensions = record.graph.vectors[0].length / record.graph.rows[0].batch
  const results = []
  for (const { batch, seq } of record.graph.rows) {
    const [inBytes, outBytes] = [batch * seq * 8, batch * dimensions * 4]
    const device = [inBytes, inBytes, outBytes].map((bytes, i) => new DeviceBuffer(gpu, `copy ${i}`, bytes))
    const pinned = [inBytes, inBytes, outBytes].map((bytes, i) => new PinnedBuffer(gpu, `copy ${i}`, bytes))
    const pageable = [inBytes, inBytes, outBytes].map((bytes) => new Uint8Array(bytes))
    const time = async (copy) => {
      const times = []
      for (let i = -5; i < 50; i++) {
        const from = performance.now()
        copy()
        await stream.idle()
        if (i >= 0) times.push(performance.now() - from)
      }
      return quantile(times, 0.5)
    }
    results.push({
      batch,
      seq,
      pinnedMs: await time(() => {
        stream.copy(device[0], pinned[0])
        stream.copy(device[1], pinned[1])
        stream.copy(pinned[2], device[2])
      }),
      pageableMs: await time(() => {
        const api = gpu.makeCurrent()
        api.cuMemcpyHtoDAsync_v2(device[0].handle, pageable[0], inBytes, stream.handle)
        api.cuMemcpyHtoDAsync_v2(device[1].handle, pageable[1], inBytes, stream.handle)
        api.cuMemcpyDtoHAsync_v2(pageable[2], device[2].handle, outBytes, stream.handle)
      }),
    })
    for (const buffer of [...device, ...pinned]) buffer[Symbol.dispose]()
  }
  stream[Symbol.dispose]()
  return results
}

/** A graph must give what a plain enqueue gives. */
function compareVectors() {
  for (const [i, expected] of record.plain.vectors.entries()) {
    const { batch, seq } = record.plain.rows[i]
    for (const mode of ['graph', 'thread']) {
      const worst = worstCosine(record[mode].vectors[i], expected, batch)
      check(`${batch}x${seq}: ${mode} gives what plain gives`, worst > 0.9999, `worst cosine ${worst}`)
    }
  }
}

function worstCosine(actual, expected, rows) {
  const size = expected.length / rows
  const cosines = Array.from({ length: rows }, (_, row) =>
    cosine(actual.subarray(row * size, (row + 1) * size), expected.subarray(row * size, (row + 1) * size)),
  )
  return Math.min(...cosines)
}

async function build() {
  const builder = new Builder(tensorrt)
  const network = builder.createNetwork()
  const parser = new OnnxParser(network)
  await parser.parseFile(flags.onnx)
  const config = builder.createConfig()
  config.optimizationLevel = Number(flags.level)
  const tokens = Number(flags.tokens)
  const minTokens = Number(flags['min-tokens'] ?? tokens)
  for (const [min, opt, max] of flags.profiles.split(',').map((each) => each.split('/').map(Number))) {
    const profile = builder.createProfile()
    for (const { name } of network.inputs) {
      profile.setShapes(name, { min: [min, minTokens], opt: [opt, tokens], max: [max, tokens] })
    }
    config.addProfile(profile)
  }
  const from = performance.now()
  const built = await builder.build(network, config)
  record.buildMs = performance.now() - from
  const path = join(folder, 'engine.plan')
  writeFileSync(path, built.bytes)
  say('built', `in ${(record.buildMs / 1e3).toFixed(1)} s, ${(built.bytes.length / 1e6).toFixed(1)} MB`)
  built[Symbol.dispose]()
  builder[Symbol.dispose]()
  return describePlan(path)
}

/** What the engine needs to know of a plan, read from the plan. */
async function describePlan(path) {
  const plan = { path, sizeBytes: statSync(path).size, precision: 'fp32', profiles: [], fromCache: true }
  const runtime = new Runtime(tensorrt)
  const { inputs, output, profiles } = await loadPlan(runtime, plan, 0)
  runtime[Symbol.dispose]()
  const limits = profiles.map(
    (p) => `${p.minBatch}/${p.optBatch}/${p.maxBatch} x ${p.minTokens}..${p.maxTokens}`,
  )
  say(
    'plan',
    `${path}, ${(plan.sizeBytes / 1e6).toFixed(1)} MB: ${inputs.map(({ name }) => name).join(', ')} -> ${output.name}; ${limits.join('; ')}`,
  )
  return plan
}

function makeBatch(batchSize, tokens, seed) {
  let state = seed
  const vocabulary = Number(flags.vocabulary)
  const inputIds = new Int32Array(batchSize * tokens)
  for (let i = 0; i < inputIds.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    inputIds[i] = (state >> 8) % vocabulary
  }
  return { inputIds, cumulativeLengths: Int32Array.from({ length: batchSize + 1 }, (_, i) => i * tokens) }
}

function printTable() {
  const head = [
    'shape',
    'mode',
    'p50 ms',
    'p95',
    'p99',
    'texts/s',
    'lanes',
    'cpu ms',
    'copies in/out beside, idle ms',
  ]
  const lines = [record.graph, record.plain, record.thread].flatMap(({ rows }) =>
    rows.map((row) => [
      `${row.batch}x${row.seq}`,
      row.mode,
      row.p50.toFixed(3),
      row.p95.toFixed(3),
      row.p99.toFixed(3),
      row.emb_s.toFixed(0),
      row.lanes_emb_s.toFixed(0),
      row.cpuMsPerBatch.toFixed(3),
      row.overlap === undefined
        ? ''
        : `${row.overlap.h2dBesideCompute}/${row.overlap.d2hBesideCompute} of ${row.overlap.batches}, ${row.overlap.idleBetweenMs.toFixed(3)}`,
    ]),
  )
  const widths = head.map((name, i) => Math.max(name.length, ...lines.map((line) => line[i].length)))
  for (const line of [head, ...lines]) console.log(line.map((cell, i) => cell.padStart(widths[i])).join('  '))
  for (const { batch, seq, pinnedMs, pageableMs } of record.copies) {
    say(`copies ${batch}x${seq}`, `pinned ${pinnedMs.toFixed(3)} ms, pageable ${pageableMs.toFixed(3)} ms`)
  }
}

function usedMib() {
  const { freeBytes, totalBytes } = gpu.readMemory()
  return Math.round((totalBytes - freeBytes) / 2 ** 20)
}

function quantile(values, ratio) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * ratio))]
}

function check(what, holds, detail = '') {
  if (!holds) failures.push(`${what} ${detail}`.trim())
}

function say(what, text) {
  console.log(`${what.padEnd(22)} ${text}`)
}
