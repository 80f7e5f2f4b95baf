// One row of sweep.mjs: build, inspect, time, compare with the fp32 vectors of the reference row.
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { loadConfig } from '../../dist/config/load.js'
import { layersPath, readRecord } from '../../dist/engines/tensorrt/engine-cache.js'
import { ensurePlans } from '../../dist/engines/tensorrt/ensure-plans.js'
import { parseLayers, summariseLayers } from '../../dist/engines/tensorrt/inspector.js'
import { toOnnxSource } from '../../dist/engines/tensorrt/onnx-source.js'
import { toPlanSettings } from '../../dist/engines/tensorrt/plan-settings.js'
import { withEngine } from '../../dist/engines/tensorrt/plan-check.js'
import { createTensorrtEngine } from '../../dist/engines/tensorrt/tensorrt-engine.js'
import { cosine } from '../../dist/engines/vectors.js'
import { MappedFile } from '../../dist/hardware/ffi/mapped-file.js'
import { findCudaLibrary } from '../../dist/hardware/machine/cuda-libraries.js'
import { readGpus } from '../../dist/hardware/machine/gpu.js'
import { openTensorrt } from '../../dist/hardware/machine/tensorrt-library.js'
import { loadModelSpec } from '../../dist/model/spec.js'

/** @returns what the journal keeps of it: `outcome` 'measured', or 'failed' with code and reason */
export async function measureRow(row, flags) {
  try {
    return await measure(row, flags)
  } catch (error) {
    const isBuild = ['ENGINE_BUILD_FAILED', 'PRECISION_UNSUPPORTED'].includes(error.code)
    return { outcome: isBuild ? 'not available' : 'failed', code: error.code, reason: error.message }
  }
}

async function measure(row, flags) {
  const search = { libraryPath: process.env.LD_LIBRARY_PATH, cudaHome: process.env.CUDA_HOME }
  const machine = await openTensorrt({ search })
  const spec = await loadModelSpec(flags.model, { cacheDir: flags.work })
  const config = loadConfig({
    flags: {
      precision: row.precision,
      profiles: row.profiles,
      profileTokens: flags.tokens,
      tacticSources: row.tacticSources,
      workspaceBytes: row.workspaceMib * 2 ** 20,
      builderOptimizationLevel: row.level,
    },
  })
  const source = await toOnnxSource(spec, toPlanSettings(config, spec), {
    cacheDir: flags.work,
    scales: flags.scales,
  })
  const notes = []
  let toldMs = 0
  const [plan] = await ensurePlans({
    ...source,
    modelName: spec.id,
    machine,
    cachePath: join(flags.work, 'engines'),
    onNote: (note) => notes.push(note),
    onProgress: ({ stage, ratio = 0, remainingMs }) => {
      if (performance.now() - toldMs < 5000) return
      toldMs = performance.now()
      const left = remainingMs === undefined ? '' : `, ${(remainingMs / 1000).toFixed(0)} s left`
      process.stderr.write(`  ${stage} ${(ratio * 100).toFixed(0)} %${left}\n`)
    },
  })
  const record = await readRecord(dirname(plan.path))
  const layers = summariseLayers(parseLayers(readFileSync(layersPath(plan.path), 'utf8')))
  const contextBytes = await readContextBytes(plan, machine)
  const engine = await createTensorrtEngine({
    spec,
    plans: [plan],
    machine,
    onNote: (note) => notes.push(note),
  })
  try {
    const times = []
    for (const batchSize of flags.batches.split(',').map(Number)) {
      const isHeld = plan.profiles.some(
        (profile) => profile.minBatch <= batchSize && batchSize <= profile.maxBatch,
      )
      if (isHeld) times.push(await time(engine, spec, batchSize, flags))
    }
    const { totalBytes, freeBytes } = await readMemory(search)
    return {
      outcome: 'measured',
      gpu: machine.device.name,
      driver: machine.driverVersion,
      tensorrt: machine.tensorrt.versionText,
      modelHash: spec.contentHash,
      scales: row.precision === 'fp8' ? flags.scales : undefined,
      tokens: Number(flags.tokens),
      buildSeconds: plan.builtInMs / 1000,
      buildWasCached: plan.fromCache,
      planBytes: plan.sizeBytes,
      contextBytes,
      engineBytes: engine.info.memoryBytes,
      gpuUsedBytes: freeBytes === undefined ? undefined : totalBytes - freeBytes,
      times,
      ...(await compare(engine, spec, row, flags)),
      productsByPrecision: layers.gemmsByPrecision,
      fusedAttentions: layers.fusedAttentions,
      tacticsHash: createHash('sha256').update(JSON.stringify(layers.tactics)).digest('hex').slice(0, 16),
      topTactics: layers.tactics.slice(0, 6),
      usedTacticSources: record.tacticSources,
      loadedLibraries: record.loadedLibraries,
      notAvailable: notes.filter((note) => note.startsWith('not available')),
      notes: [...new Set(notes)].slice(0, 20),
    }
  } finally {
    await engine[Symbol.asyncDispose]()
  }
}

async function readContextBytes(plan, machine) {
  const file = new MappedFile(plan.path)
  try {
    return await withEngine(plan.path, file, machine.tensorrt, (engine) => engine.contextBytes)
  } finally {
    file[Symbol.dispose]()
  }
}

/** Of the whole device, as nvidia-smi counts. */
async function readMemory(search) {
  const paths = { cuda: pathOf('libcuda', search), nvml: pathOf('libnvidia-ml', search) }
  return (await readGpus(paths)).gpus[0]
}

function pathOf(name, search) {
  return findCudaLibrary(name, search).found?.path
}

async function time(engine, spec, batchSize, flags) {
  const tokens = Number(flags.tokens)
  const rounds = Math.ceil(Number(flags.rounds) / (batchSize >= 8 ? 3 : 1))
  const batch = makeBatch(spec, Array(batchSize).fill(tokens), 1)
  const ms = []
  for (let i = -10; i < rounds; i++) {
    const from = performance.now()
    await engine.embed(batch)
    if (i >= 0) ms.push(performance.now() - from)
  }
  const sorted = ms.toSorted((a, b) => a - b)
  const at = (ratio) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * ratio))]
  const totalMs = ms.reduce((sum, each) => sum + each, 0)
  return {
    batchSize,
    rounds,
    p50Ms: at(0.5),
    p95Ms: at(0.95),
    p99Ms: at(0.99),
    textsPerSecond: (batchSize * rounds * 1000) / totalMs,
  }
}

/** The fp32 row leaves its vectors for the others. @returns no cosine where it has not run */
async function compare(engine, spec, row, flags) {
  const path = join(flags.work, `reference-${spec.contentHash.slice(0, 16)}-${flags.tokens}.bin`)
  const longest = Number(flags.tokens)
  const lengths = [1, 2, 7, 16, 33, 64, 100, 128, 200, 256, 300, 400, 511, 512].map((length) =>
    Math.min(length, longest),
  )
  const vectors = []
  let nonFiniteTexts = 0
  for (const [seed, length] of lengths.entries()) {
    const batch = makeBatch(spec, [length], seed + 100)
    const { values, dimensions, nonFiniteSequences } = await embedSingly(engine, batch, row)
    if (nonFiniteSequences.length > 0) nonFiniteTexts++
    vectors.push(values.slice(0, dimensions))
  }
  if (row.precision === 'fp32') {
    writeFileSync(path, Buffer.concat(vectors.map((vector) => Buffer.from(vector.buffer))))
  }
  if (!existsSync(path)) return { nonFiniteTexts, worstCosine: undefined }
  const bytes = readFileSync(path)
  const reference = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  const cosines = vectors.map((vector, i) =>
    cosine(vector, reference.subarray(i * vector.length, (i + 1) * vector.length)),
  )
  return { nonFiniteTexts, worstCosine: Math.min(...cosines) }
}

/** An engine whose smallest batch is larger than one gets the text as often as that. */
function embedSingly(engine, batch, { profiles }) {
  const smallest = Math.min(...profiles.split(',').map((profile) => Number(/=(\d+)/.exec(profile)[1])))
  if (smallest === 1) return engine.embed(batch)
  const length = batch.inputIds.length
  const inputIds = new Int32Array(length * smallest)
  for (let i = 0; i < smallest; i++) inputIds.set(batch.inputIds, i * length)
  const cumulativeLengths = Int32Array.from({ length: smallest + 1 }, (_, i) => i * length)
  return engine.embed({ inputIds, cumulativeLengths })
}

function makeBatch(spec, lengths, seed) {
  let state = seed
  const random = () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32
  const total = lengths.reduce((sum, length) => sum + length, 0)
  const inputIds = Int32Array.from({ length: total }, () => Math.floor(random() * spec.vocabularySize))
  const cumulativeLengths = new Int32Array(lengths.length + 1)
  for (const [i, length] of lengths.entries()) cumulativeLengths[i + 1] = cumulativeLengths[i] + length
  return { inputIds, cumulativeLengths }
}
