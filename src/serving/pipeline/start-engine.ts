/** engine: auto. Tries candidates from the fastest on and takes the first that starts and matches the golden vectors. */
import type { PipelineConfig } from '../../config/pipeline-config.ts'
import { createEngine } from '../../engines/create.ts'
import type { Engine } from '../../engines/engine.ts'
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
import { type Golden, compareWithGolden, loadGolden, makeGolden } from './golden.ts'
import type { StartOptions } from './start-pipeline.ts'

/** fp32 against fp32 of another implementation: what rounding alone leaves. */
const minCosineFp32 = 0.9999

export interface StartedEngine {
  readonly engine: SupervisedEngine
  /** Starts the same engine at fp32; absent where it runs at fp32. */
  readonly createHigherPrecision?: () => Promise<Engine>
  readonly golden: {
    readonly source: Golden['source']
    readonly madeBy: string
    readonly worstCosine: number
  }
  readonly notes: readonly string[]
}

export type Candidate =
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
  const onnxPath = await ensureOnnx(spec, options.cacheDir)
  const notes: string[] = []
  const libraryPath = await locateOpenvino(config, options, notes)
  const shared = {
    spec,
    onnxPath,
    threads: config.threads ?? cpu.usableCores,
    streams: config.streams ?? defaultStreams(config.threads ?? cpu.usableCores),
    maxBatchSize: config.maxBatchSize,
    maxBatchTokens: config.maxBatchTokens,
  }
  const create = async (candidate: Candidate): Promise<Engine> =>
    candidate.name === 'onnx'
      ? createEngine('onnx', { ...shared, precision: candidate.precision })
      : createEngine('openvino', { ...shared, precision: candidate.precision, libraryPath: libraryPath! })

  let golden = await loadGolden(spec, options.cacheDir)
  if (golden === undefined) {
    await using reference = await create({ name: 'onnx', precision: 'fp32' })
    golden = await makeGolden(spec, reference, tokenizer, options.cacheDir)
  }
  const { source, madeBy, texts } = golden
  const createChecked = async (candidate: Candidate) => {
    const engine = await create(candidate)
    try {
      const worstCosine = await compareWithGolden(spec, engine, tokenizer, golden)
      const { name, precision } = candidate
      const minCosine = precision === 'fp32' ? minCosineFp32 : config.minCosine
      // Written so that NaN fails.
      if (worstCosine >= minCosine) return { engine, worstCosine }
      throw new EmbedError('GOLDEN_MISMATCH', { engine: name, precision, worstCosine, minCosine })
    } catch (error) {
      await engine[Symbol.asyncDispose]()
      throw error
    }
  }
  const probeText = await tokenizer.encode(texts.slice(0, 1), {
    maxTokens: spec.maxTokens,
    truncation: 'right',
  })
  for (const candidate of listCandidates(config, cpu, libraryPath !== undefined)) {
    try {
      const { engine, worstCosine } = await createChecked(candidate)
      return {
        engine: new SupervisedEngine(engine, {
          probe: packBatch(probeText.map((input) => input.ids)),
          recreate: async () => (await createChecked(candidate)).engine,
          clock: systemClock,
        }),
        ...(candidate.precision === 'fp32'
          ? {}
          : { createHigherPrecision: () => create({ ...candidate, precision: 'fp32' }) }),
        golden: { source, madeBy, worstCosine },
        notes,
      }
    } catch (error) {
      notes.push(`${candidate.name} ${candidate.precision}: ${toReason(error)}`)
    }
  }
  throw new EmbedError('NO_ENGINE', { tried: notes })
}

/** One thread a stream: streams do not wait for each other, so a core that something else takes stops one of them only. */
function defaultStreams(threads: number): number {
  return Math.min(threads, 8)
}

/** What the configuration allows on this CPU, fastest first. */
export function listCandidates(
  config: Pick<PipelineConfig, 'engine' | 'precision'>,
  cpu: Pick<Cpu, 'features'>,
  hasOpenvino: boolean,
): Candidate[] {
  const hasBf16 = bf16Features.some((feature) => cpu.features.has(feature))
  const all: Candidate[] = [
    { name: 'openvino', precision: 'bf16' },
    { name: 'openvino', precision: 'fp16' },
    { name: 'openvino', precision: 'fp32' },
    { name: 'onnx', precision: 'fp32' },
  ]
  return all.filter(({ name, precision }) => {
    if (config.engine === 'auto' ? name === 'openvino' && !hasOpenvino : name !== config.engine) return false
    if (config.precision !== 'auto') return precision === config.precision
    // Without instructions for it bf16 is emulated, and fp16 is slower than fp32 on every CPU measured.
    return precision === 'fp32' || (precision === 'bf16' && hasBf16)
  })
}

const bf16Features = ['AMX_BF16', 'AVX512_BF16', 'NEON_BF16'] as const

/** Path of the OpenVINO library; undefined, with a note, when it is not to be had and not asked for by name. */
async function locateOpenvino(
  config: PipelineConfig,
  options: StartOptions,
  notes: string[],
): Promise<string | undefined> {
  if (config.engine === 'onnx') return undefined
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
