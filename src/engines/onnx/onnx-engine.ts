/** ONNX Runtime through its C API: the portable CPU engine. The runtime's own Node.js binding runs the graph on the
 * event loop's thread; here it runs off it. */
import { readOut, readOutAsync } from '../../hardware/ffi/library.ts'
import {
  loadOnnxruntime,
  ORT_ENABLE_ALL,
  ORT_LOGGING_LEVEL_FATAL,
  OrtDeviceAllocator,
  OrtMemTypeDefault,
  type Onnxruntime,
  type OrtEnv,
  type OrtMemoryInfo,
  type OrtRunOptions,
  type OrtSession,
  type OrtSessionOptions,
} from '../../hardware/ffi/onnxruntime.ts'
import { findOnnxruntimeLibrary } from '../../hardware/machine/onnxruntime-library.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { Engine } from '../engine.ts'
import { checkOnnxFile } from '../rectangular/onnx-file-check.ts'
import { openLibrary } from '../rectangular/open-library.ts'
import { createRectangularEngine, describeCpuDevice, shareShapes } from '../rectangular/rectangular-engine.ts'
import { readPorts } from './onnx-ports.ts'
import { createOnnxRunner } from './onnx-runner.ts'

export interface OnnxEngineOptions {
  readonly spec: ModelSpec
  readonly onnxPath: string
  /** What the file holds; the runtime computes as the file says. */
  readonly precision: 'fp32' | 'int8'
  /** Threads of all streams together. */
  readonly threads: number
  /** Rectangles that run at once, each on its share of the threads. Default 1: shortest latency. */
  readonly streams?: number
  readonly maxBatchSize: number
  /** Most padded tokens of one inference. */
  readonly maxBatchTokens: number
  /** Of libonnxruntime; default: the one that the onnxruntime-node package carries. */
  readonly libraryPath?: string | undefined
}

/** 32 x 128 tokens on 2 threads: 265 ms in rectangles of 512 cells, 321 ms in one of 4096 (caches). */
const cellsPerThread = 256

/** Reads and optimises the model off the event loop.
 * @throws {EmbedError} ENGINE_UNAVAILABLE, LIBRARY_NOT_FOUND, MODEL_FILE_MISSING, MODEL_FILE_CORRUPT, ONNXRUNTIME_STATUS */
export async function createOnnxEngine(options: OnnxEngineOptions): Promise<Engine> {
  const { spec, threads, streams = 1 } = options
  const fileBytes = await checkOnnxFile(options.onnxPath)
  const api = openLibrary(
    'onnx',
    options.libraryPath ?? findOnnxruntimeLibrary(),
    loadOnnxruntime,
    'reinstall the package onnxruntime-node for this platform',
  )
  const releases: (() => void)[] = []
  const owned = <Handle>(handle: Handle, release: (handle: Handle) => void): Handle => {
    releases.push(() => release(handle))
    return handle
  }
  const dispose = () => {
    for (const release of releases.splice(0).reverse()) release()
  }
  try {
    const env = owned(
      readOut<OrtEnv>((out) => api.CreateEnv(ORT_LOGGING_LEVEL_FATAL, 'onnx', out)),
      api.ReleaseEnv,
    )
    const memoryInfo = owned(
      readOut<OrtMemoryInfo>((out) => api.CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, out)),
      api.ReleaseMemoryInfo,
    )
    const createSession = async (sessionThreads: number) =>
      owned(await loadSession(api, env, options.onnxPath, sessionThreads), api.ReleaseSession)
    const sharedSession = await createSession(Math.max(1, Math.floor(threads / streams)))
    const exclusiveSession = streams === 1 ? undefined : await createSession(threads)
    const ports = readPorts(api, sharedSession, spec.hiddenSize)
    const createRunner = (session: OrtSession) => {
      const runOptions = owned(
        readOut<OrtRunOptions>((out) => api.CreateRunOptions(out)),
        api.ReleaseRunOptions,
      )
      return createOnnxRunner(api, { session, runOptions, memoryInfo }, ports, spec.padTokenId)
    }
    return createRectangularEngine({
      info: {
        name: 'onnx',
        device: describeCpuDevice(threads, streams),
        precision: options.precision,
        runtimeVersion: api.GetVersionString(),
        dimensions: ports.output.dimensions,
        maxTokens: spec.maxTokens,
        maxBatchSize: options.maxBatchSize,
        memoryBytes: exclusiveSession === undefined ? fileBytes : 2 * fileBytes,
        outputs: ports.output.kind === 'tokens' ? ['pooled', 'tokens'] : ['pooled'],
        concurrency: streams,
      },
      pooling: spec.pooling,
      outputKind: ports.output.kind,
      shapes: shareShapes(
        {
          maxRows: options.maxBatchSize,
          maxCells: Math.min(options.maxBatchTokens, cellsPerThread * threads),
          lengthMultiple: 1,
          maxTokens: spec.maxTokens,
          overheadCells: 32,
        },
        streams,
      ),
      runners: {
        shared: Array.from({ length: streams }, () => createRunner(sharedSession)),
        exclusive: exclusiveSession === undefined ? undefined : createRunner(exclusiveSession),
      },
      isOutOfMemory: (reason) => /bad_alloc|Failed to allocate memory|out of memory/i.test(reason),
      dispose,
    })
  } catch (error) {
    dispose()
    throw error
  }
}

async function loadSession(
  api: Onnxruntime,
  env: OrtEnv,
  onnxPath: string,
  threads: number,
): Promise<OrtSession> {
  const options = readOut<OrtSessionOptions>((out) => api.CreateSessionOptions(out))
  try {
    api.SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL)
    api.SetIntraOpNumThreads(options, threads)
    api.SetInterOpNumThreads(options, 1)
    // Workers that never spin cost 20-40 % on small batches, workers that spin on between batches burn a core that
    // the event loop and the tokenizer need: 1 ms bridges the gap between two batches under load.
    api.AddSessionConfigEntry(options, 'session.intra_op.spin_duration_us', '1000')
    return await readOutAsync<OrtSession>((out) => api.CreateSession.async(env, onnxPath, options, out))
  } finally {
    api.ReleaseSessionOptions(options)
  }
}
