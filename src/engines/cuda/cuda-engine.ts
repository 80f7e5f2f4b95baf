/** The native engine: our own forward pass on any NVIDIA GPU since Ampere, without padding and without TensorRT. */
import { join } from 'node:path'
import { EmbedError, toReason } from '../../errors.ts'
import { readOut } from '../../hardware/ffi/library.ts'
import { loadNvrtc } from '../../hardware/ffi/nvrtc.ts'
import { openLibrary } from '../rectangular/open-library.ts'
import { type Cublaslt, loadCublaslt } from '../../hardware/ffi/cublaslt.ts'
import { type Cuda, loadCuda } from '../../hardware/ffi/cuda.ts'
import { KernelCompiler } from '../../hardware/gpu/compiler.ts'
import { type GpuContext, openGpu } from '../../hardware/gpu/context.ts'
import { DiskCache } from '../../hardware/gpu/disk-cache.ts'
import type { NativeLibraries } from '../../hardware/machine/native-libraries.ts'
import { MatmulLibrary, type MatmulPrecision } from '../../hardware/gpu/matmul.ts'
import type { WaitMode } from '../../hardware/gpu/event.ts'
import { GpuStream } from '../../hardware/gpu/stream.ts'
import type { ActivationScales } from '../../model/activation-scales.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { Embeddings, EmbedOptions, Engine, EngineInfo, PackedBatch } from '../engine.ts'
import { findNonFiniteRow } from '../vectors.ts'
import { BatchBuffers, planPasses } from './batch-buffers.ts'
import type { ForwardPass } from './forward-pass.ts'
import { readCachedWeights, weightCachePath } from './weight-cache.ts'
import { planMemory } from './memory-plan.ts'
import { openModel } from './open-model.ts'
import { PassGraphs } from './pass-graphs.ts'
import { GpuWeights } from './gpu-weights.ts'
import { KernelLoader, type SourceCompiler } from './kernels/kernel-loader.ts'
import { LinearLayers } from './linear-layers.ts'
import { StagedUpload } from './staged-upload.ts'
import { limitShapes, warmUp, type WarmUpShape } from './warm-up.ts'
import { weightsFolderName } from './weight-files.ts'
import { WeightKeeper } from './weight-keeper.ts'

export interface CudaEngineOptions {
  readonly spec: ModelSpec
  readonly precision: MatmulPrecision
  /** Needed for 'fp8'. */
  readonly scales?: ActivationScales | undefined
  /** Tokens of one pass; a larger batch takes several. At least the longest text's, fewer where they do not fit the GPU.
   * Default 16384. */
  readonly maxPassTokens?: number | undefined
  /** As ForwardContext has it. Default 4096: products of so many rows are bound by the tensor cores. */
  readonly chunkRows?: number | undefined
  /** Most that may be used of the whole GPU, by whomever. Default: all. */
  readonly memoryLimitBytes?: number | undefined
  /** What the user should be told, also once the engine is ready. */
  readonly onNote?: ((note: string) => void) | undefined
  /** Most shapes that have a CUDA graph; 0: none. Default 64. */
  readonly graphs?: number | undefined
  /** Whether a kernel's blocks may start before the kernel before is done. Default: where the chip can. */
  readonly overlapping?: boolean | undefined
  /** Whether products of few rows are our own kernel's, where it takes them, instead of cuBLASLt's. Default false: a
   * pass of 16 tokens takes 2.64 ms with it, 2.47 without (Qwen3-4B shape, H100). */
  readonly fewRowsProducts?: boolean | undefined
  /** Tokens that all sequences of a pass begin with are computed once, where that saves much. Default: where the model is
   * large, since copies of keys and values take time too: 64 queries of 24 + 12 tokens take 8.2 ms in place of 17.0 with a
   * Qwen3-4B shape on an H200, and 1.23 in place of 0.53 with a model of two layers (H100). */
  readonly sharePrefix?: boolean | undefined
  /** How the end of a pass is waited for. Default: poll. */
  readonly wait?: WaitMode | undefined
  /** Made ready before the engine is: algorithms searched, graphs recorded. Default: none. */
  readonly warmUpShapes?: readonly WarmUpShape[] | undefined
  readonly algorithmCache?: DiskCache | undefined
  /** Where FP8 weights are kept, for the next start to read; written once the engine is ready. Default: nowhere. */
  readonly weightCacheFolder?: string | undefined
}

export interface CudaEngineLibraries {
  readonly cuda: Cuda
  readonly cublaslt: Cublaslt
  readonly compilerFor: (gpu: GpuContext) => SourceCompiler
}

/** What the engine asked the GPU for. Beside it the driver keeps its context, the kernels and the graphs there. */
export interface DeviceMemory {
  readonly weightBytes: number
  readonly activationBytes: number
  /** Of the matrix products. */
  readonly workspaceBytes: number
}

/** Sequences of one pass. */
const maxPassSequences = 1024
/** Of its products, from Qwen3-Embedding-4B's 3.6e9 down; Qwen3-Embedding-0.6B has 0.44e9. */
const largeModelElements = 1e9
/** Of a thread: no kernel here keeps more on it. CUDA's own 1,024 take 198 MiB more of an H200. */
const stackBytes = 256

/** openCudaEngine on the libraries at these paths.
 * @param options.cacheFolder where compiled kernels, found algorithms and FP8 weights are kept
 * @throws {EmbedError} as openCudaEngine, and ENGINE_UNAVAILABLE for a library that cannot be opened */
export async function createCudaEngine(
  options: CudaEngineOptions & { readonly libraries: NativeLibraries; readonly cacheFolder: string },
): Promise<Engine> {
  const { libraries, cacheFolder } = options
  const cuda = openLibrary('cuda', libraries.cuda, loadCuda, "install NVIDIA's driver anew")
  const fix = 'doctor tells what was looked for, and where'
  const nvrtc = openLibrary('cuda', libraries.nvrtc, loadNvrtc, fix)
  const cublaslt = openLibrary('cuda', libraries.cublaslt, loadCublaslt, fix)
  const cache = new DiskCache(join(cacheFolder, 'kernels'))
  const compilerFor = () => {
    const driverVersion = readOut<number>((out) => cuda.cuDriverGetVersion(out))
    return new KernelCompiler(nvrtc, { cache, driverVersion })
  }
  const algorithmCache = options.algorithmCache ?? new DiskCache(join(cacheFolder, 'matmul-algorithms'))
  const weightCacheFolder = join(cacheFolder, weightsFolderName)
  return openCudaEngine({ weightCacheFolder, ...options, algorithmCache }, { cuda, cublaslt, compilerFor })
}

/** Compiles the kernels and loads the weights.
 * @throws {EmbedError} ENGINE_UNAVAILABLE, GPU_UNAVAILABLE, GPU_OUT_OF_MEMORY, KERNEL_NOT_COMPILED, MODEL_FILE_CORRUPT,
 *   MODEL_CONFIG_INVALID, SCALES_INVALID */
export async function openCudaEngine(
  options: CudaEngineOptions,
  libraries: CudaEngineLibraries,
): Promise<CudaEngine> {
  const { spec, precision, graphs: maxGraphs = 64 } = options
  await using model = await openModel(spec, { precision })
  const gpu = await openGpu(libraries.cuda)
  try {
    gpu.limitStack(stackBytes)
    const stream = new GpuStream(gpu, 'forward pass')
    const loader = new KernelLoader(gpu, libraries.compilerFor(gpu), { overlapping: options.overlapping })
    const library = new MatmulLibrary(gpu, libraries.cublaslt)
    const linear = new LinearLayers(library, precision)
    const memoryBefore = gpu.readMemory()
    const asked = { passTokens: options.maxPassTokens ?? 16_384, chunkRows: options.chunkRows ?? 4096 }
    const { maxPassTokens, maxTokens, chunkRows } = planMemory(
      model.memory,
      { ...asked, textTokens: spec.maxTokens, graphs: maxGraphs },
      { ...memoryBefore, limitBytes: options.memoryLimitBytes },
    )
    if (maxTokens < spec.maxTokens) {
      options.onNote?.(
        `cuda: the GPU's memory has room for texts of ${maxTokens} tokens, the model takes ${spec.maxTokens}`,
      )
    }
    const cachePath = weightCachePathOf(options)
    const cached = cachePath === undefined ? undefined : await readCachedWeights(cachePath, stream)
    using staging = new StagedUpload(stream)
    const gpuWeights = new GpuWeights(loader, stream, { precision, cached, staging })
    const forward = await model.load({
      loader,
      stream,
      linear,
      gpuWeights,
      precision,
      scales: options.scales,
      pooling: spec.pooling,
      maxTokens,
      maxPassTokens,
      maxPassSequences,
      chunkRows,
      fewRowsProducts: options.fewRowsProducts ?? false,
    })
    const buffers = new BatchBuffers(gpu, {
      hiddenSize: spec.hiddenSize,
      maxPassTokens,
      maxPassSequences,
      attentionQueries: forward.attentionQueries,
      wait: options.wait,
      sharePrefix: options.sharePrefix ?? model.memory.matrixElements >= largeModelElements,
    })
    const info: EngineInfo = {
      name: 'cuda',
      device: gpu.device.name,
      precision,
      runtimeVersion: versionText(library.version),
      dimensions: spec.hiddenSize,
      maxTokens,
      maxBatchSize: maxPassSequences,
      memoryBytes: Math.max(gpuWeights.bytes, memoryBefore.freeBytes - gpu.readMemory().freeBytes),
      outputs: ['pooled'],
      concurrency: 1,
    }
    const graphs = new PassGraphs(forward, maxGraphs)
    const { algorithmCache } = options
    const { vocabularySize } = spec
    const shapes = limitShapes(options.warmUpShapes ?? [], { maxPassTokens, maxPassSequences, maxTokens })
    await warmUp({ stream, forward, graphs, buffers, linear, vocabularySize, algorithmCache }, shapes)
    const memory: DeviceMemory = {
      weightBytes: gpuWeights.bytes,
      activationBytes: forward.activationBytes + buffers.deviceBytes,
      workspaceBytes: library.workspace.bytes,
    }
    const keeper =
      cachePath === undefined || cached !== undefined
        ? undefined
        : new WeightKeeper({ gpu, path: cachePath, pieces: gpuWeights.pieces, onNote: options.onNote })
    return new CudaEngine(gpu, { info, memory, stream, forward, graphs, buffers, maxPassTokens, keeper })
  } catch (error) {
    gpu[Symbol.dispose]()
    throw error
  }
}

/** bf16 is read as fast from the model's own files. */
function weightCachePathOf({ weightCacheFolder: folder, spec, precision }: CudaEngineOptions) {
  if (folder === undefined || precision === 'bf16') return undefined
  return weightCachePath(folder, spec.contentHash, precision)
}

interface EngineParts {
  readonly info: EngineInfo
  readonly memory: DeviceMemory
  readonly stream: GpuStream
  readonly forward: ForwardPass
  readonly graphs: PassGraphs
  readonly buffers: BatchBuffers
  readonly maxPassTokens: number
  readonly keeper: WeightKeeper | undefined
}

export class CudaEngine implements Engine {
  readonly info: EngineInfo
  readonly memory: DeviceMemory
  readonly #gpu: GpuContext
  readonly #parts: EngineParts
  /** The end of the call that came last: one at a time uses the buffers. */
  #last: Promise<unknown> = Promise.resolve()
  #disposal: Promise<void> | undefined

  constructor(gpu: GpuContext, parts: EngineParts) {
    this.info = parts.info
    this.memory = parts.memory
    this.#gpu = gpu
    this.#parts = parts
  }

  async embed(batch: PackedBatch, options: EmbedOptions = {}): Promise<Embeddings> {
    if (this.#disposal !== undefined) throw this.#failed('it was disposed')
    const { output = 'pooled' } = options
    throwIfAborted(options.signal)
    if (output !== 'pooled') throw new EmbedError('OUTPUT_NOT_SUPPORTED', { engine: this.info.name, output })
    this.#assertBatch(batch)
    const run = this.#last.then(async () => this.#embed(batch, options))
    this.#last = run.catch(() => undefined)
    return run
  }

  /** Settles when the weights are on disk for the next start, where they are to be; never rejects. Until then the end of
   * the engine gives them up. */
  get weightsKept(): Promise<void> {
    return this.#parts.keeper?.done ?? Promise.resolve()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#end()
    await this.#disposal
  }

  /** Both use the GPU until they are done. */
  async #end(): Promise<void> {
    await Promise.all([this.#last, this.#parts.keeper?.[Symbol.asyncDispose]()])
    this.#gpu[Symbol.dispose]()
  }

  async #embed(batch: PackedBatch, { normalize = true, signal }: EmbedOptions): Promise<Embeddings> {
    const { stream, forward, graphs, buffers, maxPassTokens } = this.#parts
    const { dimensions } = this.info
    const rows = batch.cumulativeLengths.length - 1
    const values = new Float32Array(rows * dimensions)
    const startNs = process.hrtime.bigint()
    const limits = { maxPassTokens, maxPassSequences }
    try {
      for (const { first, end } of planPasses(batch.cumulativeLengths, limits)) {
        throwIfAborted(signal)
        const gpuBatch = buffers.upload(stream, batch, { first, end, forward, normalize })
        graphs.launch(stream, gpuBatch)
        values.set(await buffers.download(stream, (end - first) * dimensions), first * dimensions)
      }
    } catch (cause) {
      throwIfAborted(signal)
      throw this.#failed(toReason(cause), cause)
    }
    throwIfAborted(signal)
    const inferenceNs = process.hrtime.bigint() - startNs
    const nonFiniteSequences =
      findNonFiniteRow(values, dimensions) === -1
        ? []
        : Array.from({ length: rows }, (_, row) => row).filter(
            (row) =>
              findNonFiniteRow(values.subarray(row * dimensions, (row + 1) * dimensions), dimensions) !== -1,
          )
    return { values, rows, dimensions, normalized: normalize, nonFiniteSequences, inferenceNs }
  }

  #failed(reason: string, cause?: unknown): EmbedError {
    return new EmbedError('ENGINE_FAILED', { engine: this.info.name, reason }, { cause })
  }

  #assertBatch({ inputIds, cumulativeLengths }: PackedBatch): void {
    if (cumulativeLengths.length < 2 || cumulativeLengths[0] !== 0)
      throw this.#failed('the batch holds no sequence')
    if (cumulativeLengths.at(-1) !== inputIds.length)
      throw this.#failed(
        `${inputIds.length} token ids, but the lengths add up to ${cumulativeLengths.at(-1)}`,
      )
    for (let i = 1; i < cumulativeLengths.length; i++) {
      const length = cumulativeLengths[i]! - cumulativeLengths[i - 1]!
      if (length < 1 || length > this.info.maxTokens)
        throw this.#failed(
          `sequence ${i - 1} has ${length} tokens, the model takes 1 to ${this.info.maxTokens}`,
        )
    }
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {}, { cause: signal.reason })
}

/** 130401 -> '13.4.1' */
function versionText(version: number): string {
  return [Math.floor(version / 10_000), Math.floor(version / 100) % 100, version % 100].join('.')
}
