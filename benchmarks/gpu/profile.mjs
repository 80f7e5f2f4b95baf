// The profiler on real engines: what each kernel costs, and whether the profiler can be believed.
//   node benchmarks/gpu/profile.mjs [--shape 0.6b,4b] [--precision fp8] [--workloads 1x16,1x512,32x512] [--torch]
//     [--plan FILE --vocabulary 151936] [--api] [--out FILE]
// For each engine and workload, after a warm-up: kernels, classes, copies and pauses from CUPTI's records of `--batches`
// batches; the records' span beside CUDA events around the same batches (within 3 %); wall time with and without the
// recording, interleaved (below 5 %, or 0.5 us a kernel: CUPTI takes some 0.4 us for each on an H100, which is more than
// 5 % where kernels are short). Kernels a batch are counted with CUDA graphs and without (--plain): they must agree.
// --torch: one FP8 product timed here and by PyTorch's profiler (profile_torch.py), medians within 5 %.
// --plan: TensorRT plans, as engine.mjs takes them, instead of the native engine. Needs dist/, an NVIDIA driver, CUPTI
// (libcupti, found as doctor does), and NVRTC and cuBLASLt or TensorRT. Prints tables, then one JSON line; what was measured
// so far is in --out after each workload. Exit code 1 when a check fails.
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openCudaEngine } from '../../dist/engines/cuda/cuda-engine.js'
import { KernelBench } from '../../dist/engines/cuda/checks/kernel-bench.js'
import { fromE4m3 } from '../../dist/engines/cuda/checks/number-formats.js'
import { makeNormal } from '../../dist/engines/cuda/checks/random-values.js'
import { KernelLoader } from '../../dist/engines/cuda/kernels/kernel-loader.js'
import { loadPlan } from '../../dist/engines/tensorrt/loaded-plan.js'
import { createTensorrtEngine } from '../../dist/engines/tensorrt/tensorrt-engine.js'
import { loadCuda } from '../../dist/hardware/ffi/cuda.js'
import { readOut } from '../../dist/hardware/ffi/library.js'
import { Runtime } from '../../dist/hardware/ffi/tensorrt/runtime.js'
import { loadTensorrt } from '../../dist/hardware/ffi/tensorrt/tensorrt.js'
import { ActivityRecorder } from '../../dist/hardware/gpu/activity-recorder.js'
import { openGpu } from '../../dist/hardware/gpu/context.js'
import { DiskCache } from '../../dist/hardware/gpu/disk-cache.js'
import { Matmul } from '../../dist/hardware/gpu/matmul.js'
import { adviseGpu } from '../../dist/tuning/profiler/advice.js'
import { listDeviceWork, measureBusyTime } from '../../dist/tuning/profiler/busy-time.js'
import { judgeGpu } from '../../dist/tuning/profiler/criteria.js'
import * as format from '../../dist/tuning/profiler/format-profile.js'
import { cutActivity, summariseGpu } from '../../dist/tuning/profiler/gpu-profile.js'
import { formatProductRate, rateProducts } from '../../dist/tuning/profiler/product-rate.js'
import { summariseApiCalls, summariseKernels } from '../../dist/tuning/profiler/time-summary.js'
import { findNativeLibraries, openNative, pathOf } from './open-native.mjs'
import { SpanEvents } from './span-events.mjs'
import { shapes, writeSyntheticQwen3 } from './synthetic-qwen3.mjs'

const options = {
  shape: { type: 'string', default: '0.6b,4b', help: 'of Qwen3, random weights: small, 0.6b, 4b' },
  precision: { type: 'string', default: 'fp8', help: 'fp8, fp8-rowwise, bf16; several with commas' },
  workloads: { type: 'string', default: '1x16,1x512,32x512', help: 'sequences x tokens' },
  batches: { type: 'string', default: '20', help: 'recorded a workload; a quarter from 8 sequences on' },
  rounds: { type: 'string', default: '6', help: 'of the comparison with and without recording' },
  plain: { type: 'boolean', default: false, help: 'count the kernels without CUDA graphs too' },
  api: { type: 'boolean', default: false, help: 'the calls of driver and runtime too' },
  torch: { type: 'boolean', default: false, help: "one FP8 product here and under PyTorch's profiler" },
  'no-engine': { type: 'boolean', default: false, help: 'the product alone' },
  plan: { type: 'string', multiple: true, help: 'FILE: a TensorRT plan; several belong together' },
  vocabulary: { type: 'string', default: '151936', help: 'ids are below this, for --plan' },
  rows: { type: 'string', default: '25', help: 'kernels shown' },
  work: { type: 'string', default: tmpdir(), help: 'FOLDER for weights: 8 GB for 4b' },
  folder: { type: 'string', help: 'FOLDER where the weights of one --shape stay, to be used again' },
  cache: { type: 'string', help: 'FOLDER of compiled kernels and found algorithms' },
  gpu: { type: 'string', default: '0', help: 'ordinal' },
  out: { type: 'string', help: 'FILE: the JSON line once more' },
  help: { type: 'boolean', default: false, help: 'this' },
}
const { values: flags } = parseArgs({ options })
if (flags.help) {
  for (const [name, { help, default: value }] of Object.entries(options)) {
    const shown = value === undefined || value === false ? '' : ` (default ${value})`
    console.log(`  --${name.padEnd(12)} ${help}${shown}`)
  }
  process.exit(0)
}
const workloads = flags.workloads.split(',').map((each) => each.split('x').map(Number))
const folder = mkdtempSync(join(flags.work, 'akidb-profile-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const cacheFolder = flags.cache ?? join(folder, 'cache')
const failures = []
const record = {
  command: ['node', 'benchmarks/gpu/profile.mjs', ...process.argv.slice(2)].join(' '),
  date: new Date().toISOString(),
  commit: process.env.COMMIT,
  node: process.version,
  loadAverage: loadavg(),
  runs: [],
  failures,
}

const cuda = loadCuda(pathOf('libcuda') ?? 'libcuda.so.1')
const driverVersion = readOut((out) => cuda.cuDriverGetVersion(out))
const cuptiPath = pathOf('libcupti', Math.floor(driverVersion / 1000))
if (cuptiPath === undefined) throw new Error('libcupti was not found: set LD_LIBRARY_PATH to its folder')
record.cupti = cuptiPath
console.log(`CUPTI ${cuptiPath}, CUDA ${driverVersion / 1000}`)
const recorder = new ActivityRecorder({ cuptiPath })
let hasRecorded = false

if (flags.torch) await attempt('product beside PyTorch', compareWithTorch)
if (!flags['no-engine']) {
  if (flags.plan === undefined) {
    for (const shape of flags.shape.split(',')) await attempt(`native ${shape}`, () => profileNative(shape))
  } else {
    await attempt('tensorrt', profileTensorrt)
  }
}
await recorder[Symbol.asyncDispose]()
for (const failure of failures) console.log(`FAILED: ${failure}`)
console.log(save())
process.exit(failures.length === 0 ? 0 : 1)

async function profileNative(shape) {
  const libraries = findNativeLibraries({ cache: cacheFolder })
  const spec = writeSyntheticQwen3(flags.folder ?? join(folder, shape), shapes[shape], 512)
  const open = (precision, graphs, driver) =>
    openCudaEngine(
      {
        spec,
        precision,
        graphs,
        scales: { kind: 'fixed', scale: 32 / 448 },
        warmUpShapes: workloads.map(([sequences, tokens]) => ({ sequences, tokens })),
        algorithmCache: new DiskCache(join(cacheFolder, 'algorithms')),
        ...(flags.cache === undefined ? {} : { weightCacheFolder: join(flags.cache, 'weights') }),
      },
      { ...libraries, cuda: driver },
    )
  for (const precision of flags.precision.split(',')) {
    const events = new SpanEvents(cuda)
    const engine = await open(precision, 64, events.cuda)
    // Their copies are none of a batch's.
    await engine.weightsKept
    record.gpu = engine.info.device
    const name = `native ${shape} ${precision}`
    const { vocabulary } = shapes[shape]
    for (const workload of workloads) {
      const run = await profileWorkload({ name, engine, precision, events, vocabulary, workload })
      const bytesPerWeight = precision === 'bf16' ? 2 : 1
      const linearWeights = countWeights(shapes[shape])
      const tokens = workload[0] * workload[1] * run.batches
      run.products = rateProducts(run.classes, {
        linearWeights,
        bytesPerWeight,
        tokens,
        batches: run.batches,
      })
      if (run.products !== undefined) console.log(formatProductRate(run.products))
    }
    await engine[Symbol.asyncDispose]()
    if (flags.plain) {
      const plain = await open(precision, 0, cuda)
      for (const workload of workloads)
        await compareKernelCounts({ name, engine: plain, vocabulary, workload })
      await plain[Symbol.asyncDispose]()
    }
  }
  rmSync(join(folder, shape), { recursive: true, force: true })
}

async function profileTensorrt() {
  const gpu = await openGpu(cuda, { ordinal: Number(flags.gpu) })
  const files = { infer: pathOf('libnvinfer') ?? 'libnvinfer.so.10', onnxParser: pathOf('libnvonnxparser') }
  const tensorrt = loadTensorrt(files, cuda)
  record.gpu = gpu.device.name
  record.tensorrt = tensorrt.versionText
  const plans = []
  for (const path of flags.plan) {
    const plan = { path, sizeBytes: statSync(path).size, precision: 'fp32', profiles: [], fromCache: true }
    const runtime = new Runtime(tensorrt)
    await loadPlan(runtime, plan, 0) // refuses what cannot be used, before anything is measured
    runtime[Symbol.dispose]()
    plans.push(plan)
  }
  const spec = {
    hiddenSize: 0,
    padTokenId: 0,
    pooling: 'mean',
    maxTokens: Number.POSITIVE_INFINITY,
    files: { weights: [] },
  }
  const events = new SpanEvents(cuda)
  const machine = { cuda: events.cuda, tensorrt }
  const engine = await createTensorrtEngine({ spec, machine, plans })
  for (const workload of workloads) {
    const [sequences, tokens] = workload
    if (sequences > engine.info.maxBatchSize || tokens > engine.info.maxTokens) continue
    const vocabulary = Number(flags.vocabulary)
    await profileWorkload({
      name: 'tensorrt',
      engine,
      precision: flags.precision,
      events,
      vocabulary,
      workload,
    })
  }
  await engine[Symbol.asyncDispose]()
  gpu[Symbol.dispose]()
}

/** Times without a recording and with one, then the records of some batches with events around each. */
async function profileWorkload({
  name,
  engine,
  precision,
  events,
  vocabulary,
  workload: [sequences, tokens],
}) {
  const title = `${name}, ${sequences} x ${tokens}`
  console.log(`\n== ${title}`)
  const batch = makeBatch(sequences, tokens, vocabulary)
  const count = Math.max(5, Math.round(Number(flags.batches) / (sequences >= 8 ? 4 : 1)))
  const embed = () => engine.embed(batch, { normalize: false })
  for (let i = 0; i < 5; i++) await embed()
  const untouchedMs = hasRecorded ? undefined : median(await repeat(count, () => timed(embed)))
  const samples = sampleNvml()
  const overhead = { untouchedMs, ...(await measureOverhead(embed, count)) }
  const nvml = samples.end()
  if (untouchedMs !== undefined)
    console.log(`p50 ${untouchedMs.toFixed(3)} ms before the first recording of the process`)
  console.log(
    `p50 ${overhead.offMs.toFixed(3)} ms; while recorded ${overhead.onMs.toFixed(3)} ms, ${(100 * overhead.ratio - 100).toFixed(1)} % more`,
  )

  await recorder.start()
  await embed()
  await sleep(2)
  const host = []
  for (let i = 0; i < count; i++) {
    events.begin()
    const startMs = performance.now()
    await embed()
    const endMs = performance.now()
    host.push({ startMs, endMs, eventMs: events.endMs() })
  }
  const activity = await recorder.stop()
  // The clocks of CPU and GPU agree to some microseconds: a batch begins where the one before was over for the host.
  const bounds = [host[0].startMs - 1, ...host.map(({ endMs }) => endMs)].map((ms) => toNs(activity, ms))
  const inWindow = cutActivity(activity, host[0].startMs - 1, host.at(-1).endMs)
  const work = listDeviceWork(inWindow)
  const batches = host.map(({ startMs, endMs, eventMs }, i) => {
    const own = work.filter(({ startNs }) => startNs >= bounds[i] && startNs < bounds[i + 1])
    return { eventMs, wallMs: endMs - startMs, ...measureBusyTime(own) }
  })
  const profile = summariseGpu(inWindow, { startNs: toNs(activity, host[0].startMs), endNs: bounds.at(-1) })
  const { busy, kernels } = profile
  const spanMs = median(batches.map(({ spanNs }) => spanNs / 1e6))
  const withEvents = batches.filter(({ eventMs }) => eventMs !== undefined)
  const eventMs = withEvents.length === 0 ? undefined : median(withEvents.map((each) => each.eventMs))
  const spanRatio =
    eventMs === undefined ? undefined : median(withEvents.map((each) => each.spanNs / 1e6 / each.eventMs))
  const run = {
    name,
    sequences,
    tokens,
    batches: count,
    ...overhead,
    nvml,
    eventMs,
    spanMs,
    spanRatio,
    busyWithinBatch: median(batches.map(({ busyRatio }) => busyRatio)),
    utilisation: busy.busyRatio,
    kernelsPerBatch: inWindow.kernels.length / count,
    graphRatio: profile.graphRatio,
    overlapRatio: profile.overlapRatio,
    overheadUsPerKernel: ((overhead.onMs - overhead.offMs) * 1e3 * count) / inWindow.kernels.length,
    kernelMsPerBatch: kernels.reduce((sum, { totalNs }) => sum + totalNs, 0) / 1e6 / count,
    medianGapUs: median(batches.map(({ medianGapNs }) => medianGapNs / 1e3)),
    gapMsPerBatch: median(batches.map(({ gapNs }) => gapNs / 1e6)),
    droppedRecords: activity.droppedRecords,
    classes: profile.classes,
    memcpys: profile.memcpys,
    pauses: profile.pauses.slice(0, 12),
    criteria: judgeGpu(profile, { precision, tokensPerBatch: sequences * tokens }),
    advice: adviseGpu(profile, { precision, tokensPerBatch: sequences * tokens }),
    kernels: kernels.map((row) => ({ ...row, usPerBatch: row.totalNs / 1e3 / count })),
  }
  record.runs.push(run)
  if (eventMs === undefined) console.log('no events: the engine enqueues otherwise than was thought')
  else
    console.log(
      `events ${eventMs.toFixed(3)} ms, the records' span ${spanMs.toFixed(3)} ms = ${(100 * spanRatio).toFixed(1)} %`,
    )
  if (nvml !== undefined)
    console.log(`NVML: ${nvml.utilisationPercent} % busy, ${nvml.smClockMhz} MHz, ${nvml.powerWatts} W`)
  console.log(
    `${run.kernelsPerBatch} kernels a batch, ${(100 * run.graphRatio).toFixed(0)} % of them in graphs`,
  )
  console.log(
    `${format.formatBusyTime(busy)}; within a batch ${(100 * run.busyWithinBatch).toFixed(1)} %, pauses ${run.gapMsPerBatch.toFixed(3)} ms; times add up to ${run.overlapRatio.toFixed(2)} x the busy time`,
  )
  console.log(`\n${format.formatKernelClasses(run.classes)}\n\n${format.formatMemcpys(run.memcpys)}`)
  console.log(`\n${format.formatTimes(kernels, Number(flags.rows))}`)
  console.log(`\npauses\n${format.formatTimes(profile.pauses, 6)}`)
  for (const { name: criterion, value, target, isMet } of run.criteria)
    console.log(`${isMet ? 'pass' : 'FAIL'}  ${criterion}: ${value} (${target})`)
  for (const { text, reason } of run.advice) console.log(`next: ${text}; ${reason}`)
  check(
    `${title}: recording costs less than 5 % or 0.5 us a kernel`,
    overhead.ratio < 1.05 || run.overheadUsPerKernel < 0.5,
    `${overhead.ratio}, ${run.overheadUsPerKernel} us`,
  )
  check(`${title}: there are kernels`, kernels.length > 0)
  check(`${title}: no record is dropped`, activity.droppedRecords === 0, `${activity.droppedRecords}`)
  if (spanRatio !== undefined)
    check(`${title}: records and events agree within 3 %`, Math.abs(spanRatio - 1) < 0.03, `${spanRatio}`)
  if (flags.api) await recordApiCalls(run, embed, count)
  save()
  return run
}

/** What NVML says meanwhile: its utilisation is the share of time in which any kernel ran, pauses of a batch included. */
function sampleNvml() {
  const query = '--query-gpu=utilization.gpu,clocks.sm,power.draw'
  const child = spawn('nvidia-smi', [query, '--format=csv,noheader,nounits', '-lms', '100', '-i', flags.gpu])
  let text = ''
  child.stdout.on('data', (data) => (text += data))
  child.on('error', () => undefined) // no nvidia-smi: no samples
  process.on('exit', () => child.kill())
  return {
    end() {
      child.kill()
      const rows = text
        .trim()
        .split('\n')
        .filter(Boolean)
        .map((line) => line.split(',').map(Number))
      if (rows.length === 0) return undefined
      const [utilisationPercent, smClockMhz, powerWatts] = [0, 1, 2].map((i) =>
        median(rows.map((row) => row[i])),
      )
      return { samples: rows.length, utilisationPercent, smClockMhz, powerWatts }
    },
  }
}

async function measureOverhead(embed, count) {
  const [off, on] = [[], []]
  hasRecorded = true
  for (let round = 0; round < Number(flags.rounds); round++) {
    for (let i = 0; i < count; i++) off.push(await timed(embed))
    await recorder.start()
    await embed() // the first after a start is not what a batch costs
    for (let i = 0; i < count; i++) on.push(await timed(embed))
    await recorder.stop()
    await embed()
  }
  const [offMs, onMs] = [median(off), median(on)]
  return { offMs, onMs, ratio: onMs / offMs }
}

async function recordApiCalls(run, embed, count) {
  await recorder.start({ apiCalls: true })
  for (let i = 0; i < count; i++) await embed()
  const activity = await recorder.stop()
  run.apiCalls = summariseApiCalls(activity)
  run.apiDroppedRecords = activity.droppedRecords
  console.log(`\n${format.formatTimes(run.apiCalls, 15)}`)
}

/** Node by node, or CUPTI traces graphs as a whole. */
async function compareKernelCounts({ name, engine, vocabulary, workload: [sequences, tokens] }) {
  const batch = makeBatch(sequences, tokens, vocabulary)
  for (let i = 0; i < 3; i++) await engine.embed(batch, { normalize: false })
  const wallMs = median(await repeat(5, () => timed(() => engine.embed(batch, { normalize: false }))))
  await recorder.start()
  for (let i = 0; i < 3; i++) await engine.embed(batch, { normalize: false })
  const { kernels } = await recorder.stop()
  const run = record.runs.find(
    (each) => each.name === name && each.sequences === sequences && each.tokens === tokens,
  )
  run.plainKernelsPerBatch = kernels.length / 3
  run.plainMs = wallMs
  console.log(
    `${name}, ${sequences} x ${tokens} without graphs: ${run.plainKernelsPerBatch} kernels, ${wallMs.toFixed(3)} ms`,
  )
  check(
    `${name}, ${sequences} x ${tokens}: as many kernels with graphs as without`,
    run.plainKernelsPerBatch === run.kernelsPerBatch,
    `${run.kernelsPerBatch} and ${run.plainKernelsPerBatch}`,
  )
}

/** The product of Qwen3-4B's queries, keys and values for 512 tokens, cuBLASLt's first choice: PyTorch takes it too. */
async function compareWithTorch() {
  hasRecorded = true
  const [rows, columns, inner, count] = [512, 6144, 2560, 200]
  const { gpu, compiler, matmul: library } = await openNative({ gpu: flags.gpu, cache: cacheFolder })
  const bench = new KernelBench(new KernelLoader(gpu, compiler), { rounds: 0 })
  const matmul = new Matmul(library, { precision: 'fp8', rows, columns, inner })
  const pattern = toE4m3(makeNormal(1_000_003, 1))
  const bytes = (length) => Uint8Array.from({ length }, (_, i) => pattern[i % pattern.length])
  const operands = {
    a: bench.upload(bytes(rows * inner)),
    b: bench.upload(bytes(columns * inner)),
    d: bench.output(rows * columns * 2),
    aScale: bench.upload(new Float32Array(1).fill(0.01)),
    bScale: bench.upload(new Float32Array(1).fill(0.01)),
  }
  const algorithm = matmul.heuristics(operands)[0]
  const launch = async (times) => {
    for (let i = 0; i < times; i++) matmul.launch(bench.stream, operands, algorithm)
    await bench.stream.idle()
  }
  await launch(50)
  await recorder.start()
  await launch(count)
  const [row, ...others] = summariseKernels(await recorder.stop())
  matmul[Symbol.dispose]()
  bench[Symbol.dispose]()
  gpu[Symbol.dispose]()
  const own = {
    kernel: row.name,
    instances: row.instances,
    medianUs: row.medNs / 1e3,
    minUs: row.minNs / 1e3,
    others,
  }
  const script = fileURLToPath(new URL('profile_torch.py', import.meta.url))
  const args = ['--rows', rows, '--columns', columns, '--inner', inner, '--count', count].map(String)
  const output = execFileSync('python3', [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const torch = JSON.parse(output.toString().trim().split('\n').at(-1))
  const ratio = own.medianUs / torch.medianUs
  record.product = { rows, columns, inner, own, torch, ratio }
  console.log(
    `FP8 product ${rows} x ${inner} by ${columns}: here ${own.medianUs.toFixed(2)} us (${own.kernel})`,
  )
  console.log(
    `  PyTorch ${torch.torch}: ${torch.medianUs.toFixed(2)} us (${torch.kernel}), ratio ${ratio.toFixed(3)}`,
  )
  if (own.kernel === torch.kernel)
    check("the product's medians agree within 5 %", Math.abs(ratio - 1) < 0.05, `${ratio}`)
  else console.log('  not the same kernel: their times need not agree')
  save()
}

function toNs({ startedMs }, ms) {
  return (ms - startedMs) * 1e6
}

/** Numbers in the linear layers. */
function countWeights({ layers, hidden, heads, kvHeads, headSize, intermediate }) {
  return layers * hidden * ((2 * heads + 2 * kvHeads) * headSize + 3 * intermediate)
}

function makeBatch(sequences, tokens, vocabulary) {
  return {
    inputIds: Int32Array.from({ length: sequences * tokens }, (_, i) => (i * 7919 + 5) % vocabulary),
    cumulativeLengths: Int32Array.from({ length: sequences + 1 }, (_, i) => i * tokens),
  }
}

/** The nearest value of each, as PyTorch's operands are: power counts. */
function toE4m3(values) {
  const positive = fromE4m3(Uint8Array.from({ length: 127 }, (_, bits) => bits))
  return Uint8Array.from(values, (value) => {
    const above = positive.findIndex((each) => each >= Math.abs(value))
    const below = Math.max(0, above - 1)
    const isNearerBelow = Math.abs(value) - positive[below] < positive[above] - Math.abs(value)
    return (isNearerBelow ? below : above) | (value < 0 ? 0x80 : 0)
  })
}

async function timed(run) {
  const from = performance.now()
  await run()
  return performance.now() - from
}

async function repeat(count, run) {
  const results = []
  for (let i = 0; i < count; i++) results.push(await run())
  return results
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1]
}

function check(what, holds, detail = '') {
  if (!holds) failures.push(`${what} ${detail}`.trim())
}

/** One failure must not stop the rest. */
async function attempt(what, run) {
  try {
    await run()
  } catch (error) {
    failures.push(`${what}: ${error?.stack ?? error}`)
    console.log(`${what} failed: ${String(error)}`)
    save()
  }
}

/** What a visit that is cut short leaves behind. */
function save() {
  const line = JSON.stringify(record)
  if (flags.out !== undefined) writeFileSync(flags.out, `${line}\n`)
  return line
}
