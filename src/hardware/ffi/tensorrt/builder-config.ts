/** How an engine is built: levels, limits, tactics, profiles, the cache of timings. */
import { toNativeDims } from './dims.ts'
import { HostMemory } from './host-memory.ts'
import { TensorrtObject } from './object.ts'
import type { ProgressMonitor } from './progress-monitor.ts'

/** TacticSource by its bit. */
export const tacticSources = [
  'CUBLAS',
  'CUBLAS_LT',
  'CUDNN',
  'EDGE_MASK_CONVOLUTIONS',
  'JIT_CONVOLUTIONS',
] as const
export type TacticSource = (typeof tacticSources)[number]

/** BuilderFlag; those of a strongly typed network: its precisions stand in the model. */
export const builderFlags = { DISABLE_TIMING_CACHE: 5, TF32: 6 } as const
export type BuilderFlag = keyof typeof builderFlags

/** ProfilingVerbosity */
export const verbosities = ['layer_names_only', 'none', 'detailed'] as const
export type Verbosity = (typeof verbosities)[number]

/** MemoryPoolType */
const kWORKSPACE = 0

/** Belongs to its builder. */
export class BuilderConfig extends TensorrtObject {
  setFlag(flag: BuilderFlag): void {
    this.call('IBuilderConfig::setFlag', builderFlags[flag])
  }

  hasFlag(flag: BuilderFlag): boolean {
    return this.call('IBuilderConfig::getFlag', builderFlags[flag])
  }

  set workspaceBytes(bytes: number) {
    this.call('IBuilderConfig::setMemoryPoolLimit', kWORKSPACE, bytes)
  }

  get workspaceBytes(): number {
    return Number(this.call('IBuilderConfig::getMemoryPoolLimit', kWORKSPACE))
  }

  /** 0 builds fastest, 5 searches longest. */
  set optimizationLevel(level: number) {
    this.call('IBuilderConfig::setBuilderOptimizationLevel', level)
  }

  get optimizationLevel(): number {
    return this.call('IBuilderConfig::getBuilderOptimizationLevel')
  }

  /** What the inspector can tell of the engine later. */
  set profilingVerbosity(verbosity: Verbosity) {
    this.call('IBuilderConfig::setProfilingVerbosity', verbosities.indexOf(verbosity))
  }

  /** @throws {EmbedError} TENSORRT_FAILED when TensorRT does not take the set */
  setTacticSources(sources: readonly TacticSource[]): void {
    const mask = sources.reduce((bits, source) => bits | (1 << tacticSources.indexOf(source)), 0)
    this.callChecked('IBuilderConfig::setTacticSources', mask)
  }

  get tacticSources(): TacticSource[] {
    const mask = this.call('IBuilderConfig::getTacticSources')
    return tacticSources.filter((_, bit) => (mask & (1 << bit)) !== 0)
  }

  /** @returns its number in the engine @throws {EmbedError} TENSORRT_FAILED */
  addProfile(profile: OptimizationProfile): number {
    this.tensorrt.logger.takeErrors()
    const index = this.call('IBuilderConfig::addOptimizationProfile', profile.handle)
    if (index < 0) throw this.tensorrt.failure('IBuilderConfig::addOptimizationProfile')
    return index
  }

  /** @param monitor must live until it is replaced; undefined for none */
  setProgressMonitor(monitor: ProgressMonitor | undefined): void {
    this.call('IBuilderConfig::setProgressMonitor', monitor?.pointer ?? null)
  }

  /** Timings known from earlier builds; empty to begin. @throws {EmbedError} TENSORRT_FAILED */
  createTimingCache(blob: Uint8Array = new Uint8Array()): TimingCache {
    const handle = this.callChecked('IBuilderConfig::createTimingCache', blob, blob.length)
    return new TimingCache(this.tensorrt, 'a timing cache', handle, this)
  }

  /** @param ignoreMismatch take timings of another GPU @throws {EmbedError} TENSORRT_FAILED */
  setTimingCache(cache: TimingCache, ignoreMismatch = false): void {
    this.callChecked('IBuilderConfig::setTimingCache', cache.handle, ignoreMismatch)
  }
}

/** Belongs to the builder, which frees it. */
export class OptimizationProfile extends TensorrtObject {
  /** The shapes of one input that the engine is made for. @throws {EmbedError} TENSORRT_FAILED */
  setShapes(input: string, shapes: Readonly<Record<'min' | 'opt' | 'max', readonly number[]>>): void {
    for (const [selector, name] of (['min', 'opt', 'max'] as const).entries()) {
      const dims = toNativeDims(shapes[name])
      this.callChecked('IOptimizationProfile::setDimensions', input, selector, dims)
    }
  }

  protected override free(): void {
    // The builder's.
  }
}

export class TimingCache extends TensorrtObject {
  /** The caller frees what it gives. @throws {EmbedError} TENSORRT_FAILED */
  serialize(): HostMemory {
    return new HostMemory(this.tensorrt, this.callChecked('ITimingCache::serialize'))
  }

  /** Takes over what `other` knows. @throws {EmbedError} TENSORRT_FAILED */
  combine(other: TimingCache, ignoreMismatch = false): void {
    this.callChecked('ITimingCache::combine', other.handle, ignoreMismatch)
  }
}
