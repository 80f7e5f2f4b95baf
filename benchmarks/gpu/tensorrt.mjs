// Any ONNX text encoder through the TensorRT binding: parse, build, inspect, run. A proof that the binding works on this
// machine, and the times of plain enqueues and of a CUDA graph.
//   node benchmarks/gpu/tensorrt.mjs --onnx FILE [--profiles 1/1/1,8/16/32] [--tokens 512] [--level 3]
//     [--workspace-mib 4096] [--tactics CUBLAS,CUDNN] [--rounds 100] [--plan FILE] [--vocabulary 30000] [--out FILE]
// Libraries are looked for as doctor does, LD_LIBRARY_PATH first. Prints a table, then one JSON line.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { loadCuda } from '../../dist/hardware/ffi/cuda.js'
import { Builder } from '../../dist/hardware/ffi/tensorrt/builder.js'
import { OnnxParser } from '../../dist/hardware/ffi/tensorrt/onnx-parser.js'
import { Runtime } from '../../dist/hardware/ffi/tensorrt/runtime.js'
import { loadTensorrt } from '../../dist/hardware/ffi/tensorrt/tensorrt.js'
import { openGpu } from '../../dist/hardware/gpu/context.js'
import { captureGraph } from '../../dist/hardware/gpu/graph.js'
import { StagingBuffer } from '../../dist/hardware/gpu/staging-buffer.js'
import { GpuStream } from '../../dist/hardware/gpu/stream.js'
import { findCudaLibrary } from '../../dist/hardware/machine/cuda-libraries.js'

const { values: flags } = parseArgs({
  options: {
    onnx: { type: 'string' },
    profiles: { type: 'string', default: '1/1/1,8/16/32' },
    tokens: { type: 'string', default: '512' },
    level: { type: 'string', default: '3' },
    'workspace-mib': { type: 'string', default: '4096' },
    tactics: { type: 'string' },
    rounds: { type: 'string', default: '100' },
    vocabulary: { type: 'string', default: '30000' },
    plan: { type: 'string' },
    out: { type: 'string' },
  },
})
const tokens = Number(flags.tokens)
const rounds = Number(flags.rounds)
const profiles = flags.profiles.split(',').map((profile) => profile.split('/').map(Number))
const elementBytes = { fp32: 4, fp16: 2, bf16: 2, int64: 8, int32: 4, bool: 1, int8: 1, uint8: 1 }
const record = {
  date: new Date().toISOString(),
  onnx: flags.onnx,
  tokens,
  level: Number(flags.level),
  runs: [],
}

const search = { libraryPath: process.env['LD_LIBRARY_PATH'], cudaHome: process.env['CUDA_HOME'] }
const pathOf = (name) => findCudaLibrary(name, search).found?.path
const cuda = loadCuda(pathOf('libcuda') ?? 'libcuda.so.1')
const gpu = await openGpu(cuda)
const paths = { infer: pathOf('libnvinfer') ?? 'libnvinfer.so.10', onnxParser: pathOf('libnvonnxparser') }
const tensorrt = loadTensorrt(paths, cuda)
record.gpu = gpu.device.name
record.tensorrt = tensorrt.versionText
say('machine', `${gpu.device.name}, TensorRT ${tensorrt.versionText} in ${paths.infer}`)
const listener = tensorrt.logger.listen(({ severity, text }) =>
  console.log(`  [${severity}] ${text.slice(0, 200)}`),
)

const plan = await build()
record.planBytes = plan.bytes.length
if (flags.plan !== undefined) writeFileSync(flags.plan, plan.bytes)
const runtime = new Runtime(tensorrt)
const from = performance.now()
const engine = await runtime.deserialize(plan.bytes)
record.deserializeMs = performance.now() - from
say('engine', `${(plan.bytes.length / 1e6).toFixed(1)} MB, loaded in ${record.deserializeMs.toFixed(0)} ms`)
plan[Symbol.dispose]()
for (const { name, mode, type, shape } of engine.tensors) say(mode, `${name} ${type} [${shape.join(', ')}]`)
inspect()
for (const [index, [, batchSize]] of profiles.entries()) record.runs.push(await run(index, batchSize))

runtime[Symbol.dispose]()
listener[Symbol.dispose]()
gpu[Symbol.dispose]()
record.liveObjects = tensorrt.children.count
say('TensorRT objects left', String(record.liveObjects))
const line = JSON.stringify(record)
if (flags.out !== undefined) writeFileSync(flags.out, `${line}\n`)
console.log(line)
process.exit(0)

async function build() {
  const builder = new Builder(tensorrt)
  const network = builder.createNetwork()
  const parser = new OnnxParser(network)
  const parseFrom = performance.now()
  await parser.parseFile(flags.onnx)
  record.parseMs = performance.now() - parseFrom
  const config = builder.createConfig()
  config.workspaceBytes = Number(flags['workspace-mib']) * 2 ** 20
  config.optimizationLevel = record.level
  config.profilingVerbosity = 'detailed'
  if (flags.tactics !== undefined) config.setTacticSources(flags.tactics.split(','))
  record.tacticSources = config.tacticSources
  for (const [min, opt, max] of profiles) {
    const profile = builder.createProfile()
    for (const { name } of network.inputs) {
      profile.setShapes(name, { min: [min, tokens], opt: [opt, tokens], max: [max, tokens] })
    }
    config.addProfile(profile)
  }
  let ticks = 0
  let steps = 0
  const interval = setInterval(() => ticks++, 50)
  const buildFrom = performance.now()
  const built = await builder.build(network, config, { onProgress: () => steps++ })
  record.buildMs = performance.now() - buildFrom
  clearInterval(interval)
  record.progressSteps = steps
  say('parsed', `in ${record.parseMs.toFixed(0)} ms`)
  say(
    'built',
    `in ${(record.buildMs / 1e3).toFixed(1)} s, level ${record.level}, tactics ${record.tacticSources.join(' ')}; ${steps} progress steps, the event loop turned ${ticks} times`,
  )
  builder[Symbol.dispose]()
  return built
}

function inspect() {
  const layers = JSON.parse(engine.inspect()).Layers
  const tactics = layers.map((layer) => layer.TacticName ?? '')
  const count = (pattern) => tactics.filter((tactic) => pattern.test(tactic)).length
  record.layers = {
    total: layers.length,
    gemm: count(/gemm/i),
    fp8: count(/e4m3/i),
    attention: count(/mha/i),
  }
  say('layers', JSON.stringify(record.layers))
}

async function run(profile, batchSize) {
  const stream = new GpuStream(gpu, `profile ${profile}`)
  const execution = engine.createContext()
  execution.setProfile(profile, stream.handle)
  await stream.idle()
  const inputs = engine.tensors.filter(({ mode }) => mode === 'input')
  const outputs = engine.tensors.filter(({ mode }) => mode === 'output')
  for (const { name } of inputs) execution.setInputShape(name, [batchSize, tokens])
  const buffers = [...inputs, ...outputs].map(({ name, type, mode }) => {
    const shape = execution.shapeOf(name)
    const bytes = shape.reduce((product, size) => product * size, elementBytes[type])
    const staging = new StagingBuffer(gpu, name, bytes)
    execution.setAddress(name, staging.devicePointer)
    return { name, type, mode, staging }
  })
  for (const { name, type, staging } of buffers.filter((buffer) => buffer.mode === 'input')) {
    const values = type === 'int64' ? staging.host.bigInt64() : staging.host.int32()
    const valueOf = (i) =>
      /mask/.test(name) ? 1 : /type/.test(name) ? 0 : (i * 7919) % Number(flags.vocabulary)
    for (let i = 0; i < values.length; i++) values[i] = type === 'int64' ? BigInt(valueOf(i)) : valueOf(i)
  }
  const enqueue = () => {
    for (const { mode, staging } of buffers) if (mode === 'input') staging.upload(stream)
    gpu.makeCurrent()
    execution.enqueue(stream.handle)
    for (const { mode, staging } of buffers) if (mode === 'output') staging.download(stream)
  }
  const plainMs = await time(stream, enqueue)
  const graph = captureGraph(stream, enqueue)
  const graphMs = await time(stream, () => graph.launch(stream))
  const output = buffers
    .find(({ mode, type }) => mode === 'output' && type === 'fp32')
    ?.staging.host.float32()
  const norm = output === undefined ? undefined : Math.hypot(...output.subarray(0, output.length / batchSize))
  const result = {
    profile,
    batchSize,
    contextBytes: engine.contextBytes,
    enqueue: summarise(plainMs, batchSize),
    graph: summarise(graphMs, batchSize),
    norm,
  }
  say(
    `${batchSize} x ${tokens}`,
    `enqueue ${show(result.enqueue)} | graph ${show(result.graph)} | norm of the first ${norm?.toFixed(4)}`,
  )
  for (const owned of [graph, execution, ...buffers.map(({ staging }) => staging), stream])
    owned[Symbol.dispose]()
  return result
}

async function time(stream, enqueue) {
  const times = []
  for (let i = -10; i < rounds; i++) {
    const start = performance.now()
    enqueue()
    await stream.idle()
    if (i >= 0) times.push(performance.now() - start)
  }
  return times.toSorted((a, b) => a - b)
}

function summarise(sortedMs, batchSize) {
  const at = (ratio) => sortedMs[Math.min(sortedMs.length - 1, Math.floor(sortedMs.length * ratio))]
  const meanMs = sortedMs.reduce((sum, ms) => sum + ms, 0) / sortedMs.length
  return { p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99), textsPerSecond: (batchSize * 1e3) / meanMs }
}

function show({ p50Ms, p95Ms, textsPerSecond }) {
  return `p50 ${p50Ms.toFixed(3)} ms, p95 ${p95Ms.toFixed(3)}, ${textsPerSecond.toFixed(0)} texts/s`
}

function say(what, text) {
  console.log(`${what.padEnd(22)} ${text}`)
}
