// The native engine end to end, from token ids to vectors: Qwen3 with random weights, no PyTorch, no TensorRT.
//   node benchmarks/gpu/native.mjs [--shape small|0.6b|4b] [--precision fp8-rowwise,fp8,bf16] [--rounds 50] [--graphs 64]
//     [--work FOLDER] [--cache FOLDER] [--no-search] [--gpu 0] [--out FILE]
// First the truth: the small shape in each precision against a forward pass in f64 on the CPU. Then the times of the shape
// asked for (default 4b; 8 GB are written below --work, default the system's temporary folder). Needs dist/, an NVIDIA
// driver, NVRTC and cuBLASLt. A precision that fails is a line that says why; exit code 1 then. One JSON line last.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openCudaEngine } from '../../dist/engines/cuda/cuda-engine.js'
import { cosine } from '../../dist/engines/vectors.js'
import { DiskCache } from '../../dist/hardware/gpu/disk-cache.js'
import { findNativeLibraries } from './open-native.mjs'
import { referenceVector, shapes, writeSyntheticQwen3 } from './synthetic-qwen3.mjs'

const { values: flags } = parseArgs({
  options: {
    shape: { type: 'string', default: '4b' },
    precision: { type: 'string', default: 'fp8-rowwise,fp8,bf16' },
    rounds: { type: 'string', default: '50' },
    graphs: { type: 'string', default: '64' },
    work: { type: 'string', default: tmpdir() },
    cache: { type: 'string' },
    'no-search': { type: 'boolean', default: false },
    gpu: { type: 'string', default: '0' },
    out: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.log('see the head of benchmarks/gpu/native.mjs')
  process.exit(0)
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
const libraries = findNativeLibraries(flags)
const folder = mkdtempSync(join(flags.work, 'akidb-native-'))
const failures = []
const record = {
  command: ['node', 'benchmarks/gpu/native.mjs', ...process.argv.slice(2)].join(' '),
  date: new Date().toISOString(),
  commit: process.env.COMMIT,
  node: process.version,
  truth: [],
  times: [],
}

try {
  await attempt('truth', checkTruth)
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
  const spec = writeSyntheticQwen3(join(folder, 'small'), shapes.small, 512)
  const sequences = [1, 5, 64, 65, 150].map((length, i) =>
    Array.from({ length }, (_, at) => (at * 7919 + i * 131 + 7) % 1000),
  )
  const expected = sequences.map((ids) => Float32Array.from(referenceVector(shapes.small, ids)))
  for (const precision of precisions) {
    await attempt(`truth at ${precision}`, async () => {
      const engine = await open(spec, precision, { graphs: 64 })
      // By plain launches, then recorded, then by the graph.
      for (const way of ['plain', 'recorded', 'graph']) {
        const { values, dimensions } = await engine.embed(pack(sequences))
        const cosines = expected.map((vector, i) =>
          cosine(values.subarray(i * dimensions, (i + 1) * dimensions), vector),
        )
        record.truth.push({ precision, way, cosines })
        console.log(`${precision} ${way}: cosine to f64 ${cosines.map((each) => each.toFixed(6)).join(' ')}`)
        if (!(Math.min(...cosines) > (precision === 'bf16' ? 0.999 : 0.97)))
          failures.push(`${precision} ${way} is wrong`)
      }
      await engine[Symbol.asyncDispose]()
    })
  }
}

async function measureTimes() {
  const shape = shapes[flags.shape]
  const from = performance.now()
  const spec = writeSyntheticQwen3(join(folder, flags.shape), shape, 512)
  console.log(`${flags.shape}: weights written in ${((performance.now() - from) / 1e3).toFixed(1)} s`)
  for (const precision of precisions) {
    await attempt(`times at ${precision}`, async () => {
      const openFrom = performance.now()
      const engine = await open(spec, precision, {
        graphs: Number(flags.graphs),
        warmUpShapes: flags['no-search'] ? [] : workloads,
        ...(flags.cache === undefined
          ? {}
          : { algorithmCache: new DiskCache(join(flags.cache, 'algorithms')) }),
      })
      const readyS = (performance.now() - openFrom) / 1e3
      const { device, runtimeVersion, memoryBytes } = engine.info
      console.log(
        `${precision} on ${device}, cuBLASLt ${runtimeVersion}: ready in ${readyS.toFixed(1)} s, ${(memoryBytes / 2 ** 20).toFixed(0)} MiB`,
      )
      for (const workload of workloads) {
        const result = await measure(engine, workload)
        record.times.push({ precision, ...workload, readyS, memoryBytes, ...result })
        console.log(
          `  ${workload.sequences} x ${workload.tokens}: p50 ${result.p50Ms.toFixed(2)} ms, p95 ${result.p95Ms.toFixed(2)} ms, ${result.textsPerSecond.toFixed(0)} texts/s, CPU ${result.cpuMs.toFixed(2)} ms`,
        )
      }
      await engine[Symbol.asyncDispose]()
    })
  }
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
    // Waiting for the GPU is polling, so this is near the time itself.
    cpuMs: cpuUs / rounds / 1e3,
  }
}

function open(spec, precision, options) {
  return openCudaEngine({ spec, precision, scales, ...options }, libraries)
}

function pack(sequences) {
  const cumulativeLengths = new Int32Array(sequences.length + 1)
  for (const [i, ids] of sequences.entries()) cumulativeLengths[i + 1] = cumulativeLengths[i] + ids.length
  return { inputIds: Int32Array.from(sequences.flat()), cumulativeLengths }
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
