/** ONNX Runtime through its C API: the portable CPU engine. The runtime's own Node.js binding runs the graph on the
 * event loop's thread; here it runs off it. */
import { rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { OrtSession } from '../../hardware/ffi/onnxruntime.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { Engine } from '../engine.ts'
import { checkOnnxFile } from '../rectangular/onnx-file-check.ts'
import { createRectangularEngine, describeCpuDevice, shareShapes } from '../rectangular/rectangular-engine.ts'
import { createOnnxNodeProfiler } from './onnx-node-profiler.ts'
import { readPorts } from './onnx-ports.ts'
import { openOnnxRuntime } from './onnx-runtime.ts'

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
  /** The engine measures each node; takes one stream. */
  readonly profileNodes?: boolean
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
  const runtime = openOnnxRuntime(options.libraryPath)
  const profileFolder =
    options.profileNodes === true ? await mkdtemp(join(tmpdir(), 'akidb-onnx-nodes-')) : undefined
  const dispose = () => {
    runtime[Symbol.dispose]()
    if (profileFolder !== undefined) rmSync(profileFolder, { recursive: true, force: true })
  }
  try {
    const { api } = runtime
    const sharedSession = await runtime.createSession(
      options.onnxPath,
      Math.max(1, Math.floor(threads / streams)),
      { profilePrefix: profileFolder === undefined ? undefined : join(profileFolder, 'run') },
    )
    const exclusiveSession =
      streams === 1 ? undefined : await runtime.createSession(options.onnxPath, threads)
    const ports = readPorts(api, sharedSession, spec.hiddenSize)
    const createRunner = (session: OrtSession) => runtime.createRunner(session, ports, spec.padTokenId)
    const shared = Array.from({ length: streams }, () => createRunner(sharedSession))
    const profiled =
      profileFolder === undefined ? undefined : createOnnxNodeProfiler(api, sharedSession, shared[0]!)
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
        shared: profiled === undefined ? shared : [profiled.runner],
        exclusive: exclusiveSession === undefined ? undefined : createRunner(exclusiveSession),
      },
      nodeProfiler: profiled?.profiler,
      isOutOfMemory: (reason) => /bad_alloc|Failed to allocate memory|out of memory/i.test(reason),
      dispose,
    })
  } catch (error) {
    dispose()
    throw error
  }
}
