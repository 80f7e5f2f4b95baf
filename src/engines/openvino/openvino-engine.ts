/** OpenVINO's CPU plugin through its C API, off the event loop. */
import {
  loadOpenvino,
  type Openvino,
  type OvCompiledModel,
  type OvCore,
  type OvInferRequest,
  type OvModel,
  type OvVersion,
} from '../../hardware/ffi/openvino.ts'
import { readOut, readOutAsync } from '../../hardware/ffi/library.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { Engine } from '../engine.ts'
import { checkOnnxFile } from '../rectangular/onnx-file-check.ts'
import { openLibrary } from '../rectangular/open-library.ts'
import { createRectangularEngine, describeCpuDevice, shareShapes } from '../rectangular/rectangular-engine.ts'
import { createOpenvinoNodeProfiler } from './openvino-node-profiler.ts'
import { createOpenvinoRunner } from './openvino-runner.ts'
import { readPorts } from './openvino-ports.ts'

export const openvinoPrecisions = ['fp32', 'bf16', 'fp16'] as const
export type OpenvinoPrecision = (typeof openvinoPrecisions)[number]

export interface OpenvinoEngineOptions {
  readonly spec: ModelSpec
  readonly onnxPath: string
  /** Of libopenvino_c. */
  readonly libraryPath: string
  readonly precision: OpenvinoPrecision
  /** Threads of all streams together. */
  readonly threads: number
  /** Rectangles that run at once, each on its share of the threads. Default 1: shortest latency. */
  readonly streams?: number
  readonly maxBatchSize: number
  /** Most padded tokens of one inference. */
  readonly maxBatchTokens: number
  /** The engine measures each node; takes one stream. */
  readonly profileNodes?: boolean
  /** Where compiled models are kept between starts; none when absent. */
  readonly cacheDir?: string | undefined
}

const precisionHints = { fp32: 'f32', bf16: 'bf16', fp16: 'f16' } as const

/** 32 x 128 tokens on 2 threads at bf16: 141 ms in rectangles of 2048 cells, 145 ms in one of 4096 (caches). */
const cellsPerThread = 1024

/** Reads and compiles the model off the event loop.
 * @throws {EmbedError} ENGINE_UNAVAILABLE, MODEL_FILE_MISSING, MODEL_FILE_CORRUPT, OPENVINO_STATUS */
export async function createOpenvinoEngine(options: OpenvinoEngineOptions): Promise<Engine> {
  const { spec, precision, threads, streams = 1 } = options
  const fileBytes = await checkOnnxFile(options.onnxPath)
  const api = openLibrary(
    'openvino',
    options.libraryPath,
    loadOpenvino,
    'check that all OpenVINO libraries lie in one folder and fit this machine',
  )
  const core = readOut<OvCore>((out) => api.ov_core_create(out))
  const compiled: OvCompiledModel[] = []
  const requests: OvInferRequest[] = []
  const dispose = () => {
    for (const request of requests.splice(0)) api.ov_infer_request_free(request)
    for (const model of compiled.splice(0)) api.ov_compiled_model_free(model)
    api.ov_core_free(core)
  }
  try {
    // One compilation for calls that share the threads, one for a call that has them all; what is constant is shared.
    await compileInto(compiled, api, core, options, streams === 1 ? [1] : [streams, 1])
    const ports = readPorts(api, compiled[0]!, spec.hiddenSize)
    const createRunner = (model: OvCompiledModel) => {
      const request = readOut<OvInferRequest>((out) => api.ov_compiled_model_create_infer_request(model, out))
      requests.push(request)
      return createOpenvinoRunner(api, request, ports, spec.padTokenId)
    }
    const shared = Array.from({ length: streams }, () => createRunner(compiled[0]!))
    const profiled =
      options.profileNodes === true ? createOpenvinoNodeProfiler(api, requests[0]!, shared[0]!) : undefined
    return createRectangularEngine({
      info: {
        name: 'openvino',
        device: describeCpuDevice(threads, streams),
        precision,
        runtimeVersion: readVersion(api),
        dimensions: ports.output.dimensions,
        maxTokens: spec.maxTokens,
        maxBatchSize: options.maxBatchSize,
        memoryBytes: (precision === 'fp32' ? fileBytes : fileBytes / 2) * compiled.length,
        outputs: ports.output.kind === 'tokens' ? ['pooled', 'tokens'] : ['pooled'],
        concurrency: streams,
      },
      pooling: spec.pooling,
      outputKind: ports.output.kind,
      shapes: shareShapes(
        {
          maxRows: options.maxBatchSize,
          maxCells: Math.min(options.maxBatchTokens, cellsPerThread * threads),
          // Each shape met costs time and memory: 300 ragged batches end at 286 MiB instead of 442; 16 and 32 pad more.
          lengthMultiple: 8,
          maxTokens: spec.maxTokens,
          overheadCells: 32,
        },
        streams,
      ),
      runners: {
        shared: profiled === undefined ? shared : [profiled.runner],
        exclusive: compiled[1] === undefined ? undefined : createRunner(compiled[1]),
      },
      nodeProfiler: profiled?.profiler,
      isOutOfMemory: (reason) => /bad_alloc|out of memory|allocate memory/i.test(reason),
      dispose,
    })
  } catch (error) {
    dispose()
    throw error
  }
}

/** Kernels that each stream keeps for shapes met before. OpenVINO's 5,000 take 90 MiB more after 460 shapes and grow on;
 * 128 stay level and are as fast (experiments/LOG.md). */
const keptKernels = '128'

/** Compiles the model once for each number of streams. */
async function compileInto(
  compiled: OvCompiledModel[],
  api: Openvino,
  core: OvCore,
  { onnxPath, precision, threads, cacheDir, profileNodes = false }: OpenvinoEngineOptions,
  streamCounts: readonly number[],
): Promise<void> {
  const setProperty = (key: string, value: string): void =>
    api.ov_core_set_property(core, 'CPU', 'const char *', key, 'const char *', value)
  const setProperties = (properties: Readonly<Record<string, string>>): void => {
    for (const [key, value] of Object.entries(properties)) setProperty(key, value)
  }
  setProperties({
    INFERENCE_PRECISION_HINT: precisionHints[precision],
    INFERENCE_NUM_THREADS: String(threads),
    // Pinned threads cannot leave a core that something else keeps busy.
    ENABLE_CPU_PINNING: 'NO',
    ...(profileNodes ? { PERF_COUNT: 'YES' } : {}),
    ...(cacheDir === undefined ? {} : { CACHE_DIR: cacheDir }),
  })
  try {
    setProperty('CPU_RUNTIME_CACHE_CAPACITY', keptKernels)
  } catch {
    // Only in OpenVINO's source, not in its documentation: a version without it grows with the shapes it meets.
  }
  const model = await readOutAsync<OvModel>((out) => api.ov_core_read_model.async(core, onnxPath, null, out))
  try {
    for (const streams of streamCounts) {
      setProperties({
        PERFORMANCE_HINT: streams === 1 ? 'LATENCY' : 'THROUGHPUT',
        NUM_STREAMS: String(streams),
      })
      compiled.push(
        await readOutAsync<OvCompiledModel>((out) =>
          api.ov_core_compile_model.async(core, model, 'CPU', 0, out),
        ),
      )
    }
  } finally {
    api.ov_model_free(model)
  }
}

/** '2026.4.1-22982-e213a147257-releases/2026/4' -> '2026.4.1' */
function readVersion(api: Openvino): string {
  const version: Partial<OvVersion> = {}
  api.ov_get_openvino_version(version)
  return (version as OvVersion).buildNumber.split('-')[0]!
}
