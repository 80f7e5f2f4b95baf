/** ONNX -> plan: parses, sets what the settings say, builds, and tells what TensorRT really took. */
import { EmbedError } from '../../errors.ts'
import type { BuilderConfig, TacticSource } from '../../hardware/ffi/tensorrt/builder-config.ts'
import { Builder } from '../../hardware/ffi/tensorrt/builder.ts'
import type { HostMemory } from '../../hardware/ffi/tensorrt/host-memory.ts'
import type { Network } from '../../hardware/ffi/tensorrt/network.ts'
import type { PlanMemory } from '../../hardware/ffi/tensorrt/runtime.ts'
import { OnnxParser } from '../../hardware/ffi/tensorrt/onnx-parser.ts'
import { listLoadedLibraries } from '../../hardware/machine/loaded-libraries.ts'
import type { TensorrtMachine } from '../../hardware/machine/tensorrt-library.ts'
import { type BuildShare, createBuildMeter } from './build-progress.ts'
import type { PlanSettings, Profile } from './plan.ts'
import { saveTimingCache, timingCachePath, useTimingCache } from './timing-cache.ts'

export interface BuildPlanOptions {
  readonly machine: TensorrtMachine
  readonly onnxPath: string
  readonly settings: PlanSettings
  /** Folder of the timing cache. */
  readonly cachePath: string
  readonly onProgress?: ((share: BuildShare) => void) | undefined
  /** What a person should know, though it stops nothing. */
  readonly onNote?: ((note: string) => void) | undefined
  /** Ends the build at its next step; its timings are kept. */
  readonly signal?: AbortSignal | undefined
}

export interface BuiltPlan extends Disposable {
  /** TensorRT's memory: gone once this is disposed of. */
  readonly plan: PlanMemory
  readonly builtInMs: number
  /** As TensorRT read them back. */
  readonly tacticSources: readonly TacticSource[]
  /** CUDA's libraries that are in memory now. */
  readonly loadedLibraries: readonly string[]
}

/** Takes seconds to minutes, off the event loop. The caller disposes of the plan.
 * @throws {EmbedError} ONNX_NOT_PARSED with the node, ENGINE_BUILD_FAILED with TensorRT's words, LIBRARY_NOT_FOUND,
 * REQUEST_CANCELLED */
export async function buildPlan(options: BuildPlanOptions): Promise<BuiltPlan> {
  const { onNote = () => {} } = options
  const { tensorrt } = options.machine
  // Many are said again for each layer.
  const said = new Set<string>()
  const listener = tensorrt.logger.listen(({ severity, text }) => {
    if (!said.has(text)) onNote(`TensorRT ${severity}: ${text}`)
    said.add(text)
  })
  try {
    return await buildHeard(options)
  } finally {
    listener[Symbol.dispose]()
  }
}

async function buildHeard(options: BuildPlanOptions): Promise<BuiltPlan> {
  const { machine, onnxPath, settings, cachePath, onProgress, signal, onNote = () => {} } = options
  using builder = new Builder(machine.tensorrt)
  const network = builder.createNetwork()
  using parser = new OnnxParser(network)
  await parser.parseFile(onnxPath)
  const config = builder.createConfig()
  applySettings(builder, network, config, settings)
  const timingsPath = timingCachePath(cachePath, machine)
  const timings = await useTimingCache(config, timingsPath, onNote)
  const sources = config.tacticSources
  const meter = createBuildMeter()
  const startedMs = performance.now()
  let memory: HostMemory
  let builtInMs: number
  try {
    memory = await build(builder, network, config, {
      onnxPath,
      signal,
      onProgress: (progress) => onProgress?.(meter.update(progress)),
    })
    builtInMs = performance.now() - startedMs
  } finally {
    await saveTimingCache(config, timings, timingsPath, onNote)
  }
  const loadedLibraries = listLoadedLibraries().filter((path) => cudaLibrary.test(path))
  for (const note of findMissingLibraries(sources, loadedLibraries)) onNote(note)
  return {
    plan: memory.memory,
    builtInMs,
    tacticSources: sources,
    loadedLibraries,
    [Symbol.dispose]: () => memory[Symbol.dispose](),
  }
}

/** Libraries that a tactic source takes its kernels from; the others are parts of TensorRT. */
const librariesBySource: Partial<Record<TacticSource, RegExp>> = {
  CUBLAS: /\/libcublas\.so/,
  CUBLAS_LT: /\/libcublasLt\.so/,
  CUDNN: /\/libcudnn[\w]*\.so/,
}

/** 'not available: …' for each source whose library is not in memory after a build. */
export function findMissingLibraries(
  sources: readonly TacticSource[],
  loadedLibraries: readonly string[],
): string[] {
  return sources.flatMap((source) => {
    const library = librariesBySource[source]
    if (library === undefined || loadedLibraries.some((path) => library.test(path))) return []
    const name = library.source.replace(/^\\\/(lib[a-zA-Z]+).*$/, '$1')
    return [
      `not available: ${source}, since ${name} was not loaded; put its folder into LD_LIBRARY_PATH, or leave the source out`,
    ]
  })
}

const cudaLibrary = /\/lib(cublas|cublasLt|cudnn\w*|nvinfer\w*|nvonnxparser|nvrtc\w*|cudart|cuda)\.so/

function applySettings(
  builder: Builder,
  network: Network,
  config: BuilderConfig,
  settings: PlanSettings,
): void {
  config.workspaceBytes = settings.workspaceBytes
  config.optimizationLevel = settings.builderOptimizationLevel
  config.profilingVerbosity = 'detailed'
  if (settings.tacticSources !== 'default') config.setTacticSources(settings.tacticSources)
  for (const shapes of settings.profiles) {
    const profile = builder.createProfile()
    for (const { name, shape } of network.inputs) profile.setShapes(name, toShapes(name, shape, shapes))
    config.addProfile(profile)
  }
}

/** The first open size is the batch, the second the tokens; fixed ones stay. */
function toShapes(
  input: string,
  shape: readonly number[],
  { minBatch, optBatch, maxBatch, minTokens, optTokens, maxTokens }: Profile,
): Record<'min' | 'opt' | 'max', number[]> {
  const misplaced = shape.findIndex((size, place) => size < 0 && place > 1)
  if (misplaced !== -1) {
    throw new EmbedError('ENGINE_BUILD_FAILED', {
      onnx: `the input '${input}'`,
      reason: `its size ${misplaced} of [${shape.join(', ')}] is open; only batch and tokens may be`,
      fix: 'export the model for feature extraction, without past key values',
    })
  }
  const fill = (batch: number, tokens: number) =>
    shape.map((size, place) => (size >= 0 ? size : place === 0 ? batch : tokens))
  return {
    min: fill(minBatch, minTokens),
    opt: fill(optBatch, optTokens),
    max: fill(maxBatch, maxTokens),
  }
}

async function build(
  builder: Builder,
  network: Network,
  config: BuilderConfig,
  { onnxPath, ...options }: NonNullable<Parameters<Builder['build']>[2]> & { readonly onnxPath: string },
): Promise<HostMemory> {
  try {
    return await builder.build(network, config, options)
  } catch (cause) {
    if (!(cause instanceof EmbedError) || cause.code !== 'TENSORRT_FAILED') throw cause
    const { reason } = (cause as EmbedError<'TENSORRT_FAILED'>).details
    throw new EmbedError('ENGINE_BUILD_FAILED', { onnx: onnxPath, reason, fix: chooseFix(reason) }, { cause })
  }
}

/** What helps, by TensorRT's words. */
function chooseFix(reason: string): string {
  if (/out of memory|OutOfMemory|insufficient memory|cudaMalloc/i.test(reason)) {
    return 'stop what else uses the GPU, or lower the largest profile or --workspace-bytes'
  }
  if (/workspace|could not find any implementation/i.test(reason)) {
    return 'raise --workspace-bytes, or allow more with --tactic-sources default'
  }
  return "the words are TensorRT's; 'akidb-embedding doctor' tells the versions to look them up with"
}
