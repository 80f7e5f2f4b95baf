/** engine: auto. Tries candidates from the fastest on and takes the first that starts and matches the golden vectors. */
import type { PipelineConfig } from '../../config/pipeline-config.ts'
import { createEngine } from '../../engines/create.ts'
import type { Engine } from '../../engines/engine.ts'
import type { CudaPrecision } from '../../engines/cuda/precisions.ts'
import type { PlanPrecision } from '../../engines/tensorrt/plan.ts'
import { EmbedError, toReason } from '../../errors.ts'
import { type Cpu, readCpu } from '../../hardware/machine/cpu.ts'
import { findOpenvinoLibrary } from '../../hardware/machine/openvino-library.ts'
import { ensureOnnx } from '../../model/onnx-file.ts'
import { openvinoRuntimeFolders, pullOpenvinoRuntime } from '../../model/pull/openvino-runtime.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { systemClock } from '../batching/clock.ts'
import { packBatch } from '../batching/packed-batch.ts'
import { SupervisedEngine } from './engine-supervisor.ts'
import { checkFinite, compareWithGolden, type Golden, goldenTexts, loadGolden } from './golden.ts'
import { locateNativeEngine, type NativeEngine } from './native-engine.ts'
import { canAffordFp32, makeReferenceGolden, maxReferenceWeightBytes } from './reference-golden.ts'
import type { StartOptions } from './start-pipeline.ts'
import { locateTensorrt, type TensorrtPlans } from './tensorrt-plans.ts'

/** fp32 against fp32 of another implementation: what rounding alone leaves. */
const minCosineFp32 = 0.9999

export interface StartedEngine {
  readonly engine: SupervisedEngine
  /** Starts the model at fp32; absent where it runs at fp32, or is too large for it. */
  readonly createHigherPrecision?: () => Promise<Engine>
  readonly golden: GoldenReport
  readonly notes: readonly string[]
}

/** What the engine's vectors were compared with. 'none': with nothing. */
export type GoldenReport =
  | { readonly source: Golden['source']; readonly madeBy: string; readonly worstCosine: number }
  | { readonly source: 'none'; readonly madeBy?: undefined; readonly worstCosine?: undefined }

export type Candidate =
  | { readonly name: 'tensorrt'; readonly precision: PlanPrecision }
  | { readonly name: 'cuda'; readonly precision: CudaPrecision }
  | { readonly name: 'openvino'; readonly precision: 'bf16' | 'fp16' | 'fp32' }
  | { readonly name: 'onnx'; readonly precision: 'fp32' }

/** @throws {EmbedError} NO_ENGINE with what each candidate said, ARCHITECTURE_UNSUPPORTED, MODEL_FILE_CORRUPT, NO_SPACE */
export async function startEngine(
  spec: ModelSpec,
  tokenizer: Tokenizer,
  config: PipelineConfig,
  options: StartOptions,
): Promise<StartedEngine> {
  const cpu = readCpu()
  const notes: string[] = []
  const libraryPath = await locateOpenvino(config, options, notes)
  const tensorrt = await locateTensorrt(spec, config, options, notes)
  const native = await locateNativeEngine(spec, config, options, notes)
  const create = createCreator(spec, config, options, { cpu, libraryPath, tensorrt, native, notes })
  const candidates = listCandidates(config, cpu, {
    hasOpenvino: libraryPath !== undefined,
    planPrecisions: [...(tensorrt?.plansByPrecision.keys() ?? [])],
    nativePrecision: native?.precision,
  })
  const golden =
    (await loadGolden(spec, options.cacheDir)) ??
    (await makeReferenceGolden(spec, tokenizer, options.cacheDir, {
      createFp32: () => create({ name: 'onnx', precision: 'fp32' }),
      createBf16: chooseBf16Reference(candidates[0], { tensorrt, native }, create),
    }))
  const createChecked = async (candidate: Candidate) => {
    const engine = await create(candidate)
    try {
      return { engine, report: await checkVectors(spec, engine, tokenizer, golden, config.minCosine) }
    } catch (error) {
      await engine[Symbol.asyncDispose]()
      throw error
    }
  }
  const probeText = await tokenizer.encode((await goldenTexts(golden)).slice(0, 1), {
    maxTokens: spec.maxTokens,
    truncation: 'right',
  })
  for (const candidate of candidates) {
    try {
      const { engine, report } = await createChecked(candidate)
      if (report.source === 'none') notes.push(describeUnchecked(spec))
      return {
        engine: new SupervisedEngine(engine, {
          probe: packBatch(probeText.map(({ ids }) => ids.subarray(0, engine.info.maxTokens))),
          recreate: async () => (await createChecked(candidate)).engine,
          clock: systemClock,
        }),
        ...(candidate.precision !== 'fp32' && (await canAffordFp32(spec))
          ? { createHigherPrecision: () => create(atFp32(candidate)) }
          : {}),
        golden: report,
        notes,
      }
    } catch (error) {
      notes.push(`${candidate.name} ${candidate.precision}: ${toReason(error)}`)
    }
  }
  throw new EmbedError('NO_ENGINE', { tried: notes })
}

/** What is to be had on this machine. */
interface Found {
  readonly cpu: Cpu
  readonly libraryPath: string | undefined
  readonly tensorrt: TensorrtPlans | undefined
  readonly native: NativeEngine | undefined
  readonly notes: string[]
}

/** The ONNX file of the CPU engines is made when the first of them is asked for: of a large model it takes long. */
function createCreator(
  spec: ModelSpec,
  config: PipelineConfig,
  { cacheDir, profileNodes = false }: StartOptions,
  { cpu, libraryPath, tensorrt, native, notes }: Found,
): CreateCandidate {
  const threads = config.threads ?? cpu.usableCores
  const limits = { maxBatchSize: config.maxBatchSize, maxBatchTokens: config.maxBatchTokens }
  return async (candidate, role = 'served') => {
    if (candidate.name === 'tensorrt') {
      return createEngine('tensorrt', {
        spec,
        machine: tensorrt!.machine,
        plans: tensorrt!.plansByPrecision.get(candidate.precision)!,
        lanes: config.streams,
        graphs: config.cudaGraphs,
        wait: config.gpuWait,
        onNote: (note) => notes.push(note),
      })
    }
    if (candidate.name === 'cuda') {
      return createEngine('cuda', {
        spec,
        precision: candidate.precision,
        scales: native!.scales,
        libraries: native!.libraries,
        cacheFolder: cacheDir,
        maxPassTokens: config.maxBatchTokens,
        wait: config.gpuWait,
        // A reference computes a few texts and is gone before anything is served: nothing is searched for it, and what is served
        // later need not leave room for it.
        ...(role === 'served'
          ? { graphs: config.cudaGraphs, memoryLimitBytes: config.gpuMemoryBytes, warmUpShapes }
          : { graphs: 0 }),
        onNote: (note) => notes.push(note),
      })
    }
    const streams = profileNodes ? 1 : (config.streams ?? defaultStreams(threads))
    const onnxPath = await ensureOnnx(spec, cacheDir)
    const shared = { spec, onnxPath, threads, streams, profileNodes, ...limits }
    return candidate.name === 'onnx'
      ? createEngine('onnx', { ...shared, precision: candidate.precision })
      : createEngine('openvino', { ...shared, precision: candidate.precision, libraryPath: libraryPath! })
  }
}

/** What makes golden vectors of a model too large for fp32; undefined when nothing can, or it is what is to be checked. */
function chooseBf16Reference(
  first: Candidate | undefined,
  { tensorrt, native }: Pick<Found, 'tensorrt' | 'native'>,
  create: CreateCandidate,
): (() => Promise<Engine>) | undefined {
  if (first?.precision === 'bf16') return undefined
  if (tensorrt?.plansByPrecision.has('bf16') === true)
    return () => create({ name: 'tensorrt', precision: 'bf16' })
  return native === undefined ? undefined : () => create({ name: 'cuda', precision: 'bf16' }, 'reference')
}

/** Common ones: one short, one middling, one long text, and batches up to as many rows as products have at once. */
const warmUpShapes = [
  { sequences: 1, tokens: 16 },
  { sequences: 1, tokens: 128 },
  { sequences: 1, tokens: 512 },
  { sequences: 8, tokens: 128 },
  { sequences: 8, tokens: 512 },
  { sequences: 32, tokens: 512 },
] as const

type CreateCandidate = (candidate: Candidate, role?: 'served' | 'reference') => Promise<Engine>

/** TensorRT has no second engine in memory for the rare text that needs it: that runs on the CPU. */
function atFp32({ name }: Candidate): Candidate {
  return { name: name === 'openvino' ? 'openvino' : 'onnx', precision: 'fp32' }
}

/** @throws {EmbedError} GOLDEN_MISMATCH */
async function checkVectors(
  spec: ModelSpec,
  engine: Engine,
  tokenizer: Tokenizer,
  golden: Golden | undefined,
  minCosineLow: number,
): Promise<GoldenReport> {
  const { name, precision } = engine.info
  const minCosine = precision === 'fp32' ? minCosineFp32 : minCosineLow
  if (golden === undefined) {
    await checkFinite(spec, engine, tokenizer)
    return { source: 'none' }
  }
  const worstCosine = await compareWithGolden(spec, engine, tokenizer, golden)
  // Written so that NaN fails.
  if (!(worstCosine >= minCosine)) {
    throw new EmbedError('GOLDEN_MISMATCH', { engine: name, precision, worstCosine, minCosine })
  }
  return { source: golden.source, madeBy: golden.madeBy, worstCosine }
}

function describeUnchecked({ id, folder }: ModelSpec): string {
  return `THE VECTORS ARE NOT CHECKED: ${id} ships no golden vectors, its weights are above ${maxReferenceWeightBytes / 2 ** 30} GiB, too large to make them at fp32 here, and there is no bf16 plan to make them with; put a golden.json into ${folder}, or build a plan at bf16`
}

/** One thread a stream: streams do not wait for each other, so a core that something else takes stops one of them only. */
function defaultStreams(threads: number): number {
  return Math.min(threads, 8)
}

/** What was found here. */
export interface Available {
  readonly hasOpenvino: boolean
  /** Of TensorRT's plans of this model, the fastest first. */
  readonly planPrecisions: readonly PlanPrecision[]
  /** That the native engine would run at; undefined: it cannot. */
  readonly nativePrecision: CudaPrecision | undefined
}

/** What the configuration allows on this machine, fastest first. */
export function listCandidates(
  config: Pick<PipelineConfig, 'engine' | 'precision'>,
  cpu: Pick<Cpu, 'features'>,
  { hasOpenvino, planPrecisions, nativePrecision }: Available,
): Candidate[] {
  const hasBf16 = bf16Features.some((feature) => cpu.features.has(feature))
  const plans = planPrecisions.map((precision): Candidate => ({ name: 'tensorrt', precision }))
  const native: Candidate[] =
    nativePrecision === undefined ? [] : [{ name: 'cuda', precision: nativePrecision }]
  if (config.engine === 'tensorrt') return plans
  if (config.engine === 'cuda') return native
  const all: Candidate[] = [
    { name: 'openvino', precision: 'bf16' },
    { name: 'openvino', precision: 'fp16' },
    { name: 'openvino', precision: 'fp32' },
    { name: 'onnx', precision: 'fp32' },
  ]
  const onCpu = all.filter(({ name, precision }) => {
    if (config.engine === 'auto' ? name === 'openvino' && !hasOpenvino : name !== config.engine) return false
    if (config.precision !== 'auto') return precision === config.precision
    // Without instructions for it bf16 is emulated, and fp16 is slower than fp32 on every CPU measured.
    return precision === 'fp32' || (precision === 'bf16' && hasBf16)
  })
  return config.engine === 'auto' ? [...plans, ...native, ...onCpu] : onCpu
}

const bf16Features = ['AMX_BF16', 'AVX512_BF16', 'NEON_BF16'] as const

/** Path of the OpenVINO library; undefined, with a note, when it is not to be had and not asked for by name. */
async function locateOpenvino(
  config: PipelineConfig,
  options: StartOptions,
  notes: string[],
): Promise<string | undefined> {
  if (config.engine !== 'auto' && config.engine !== 'openvino') return undefined
  const { cacheDir, signal, onProgress } = options
  const folders = openvinoRuntimeFolders(cacheDir)
  let search = findOpenvinoLibrary({ explicitPath: config.openvinoLibrary, folders })
  if (search.found === undefined && config.fetchRuntime && !config.offline) {
    try {
      await pullOpenvinoRuntime({ cacheDir, signal, onProgress })
      search = findOpenvinoLibrary({ folders })
    } catch (error) {
      notes.push(`openvino: ${toReason(error)}`)
    }
  }
  if (search.found !== undefined) return search.found.path
  const fix = "'akidb-embedding pull-runtime openvino' fetches it"
  if (config.engine === 'openvino') {
    throw new EmbedError('LIBRARY_NOT_FOUND', { library: 'libopenvino_c', searched: search.searched, fix })
  }
  notes.push(`openvino: not found, so onnx is used; ${fix}`)
  return undefined
}
