/** Turns a network into a plan, the serialised engine. */
import { EmbedError } from '../../../errors.ts'
import { BuilderConfig, OptimizationProfile } from './builder-config.ts'
import { HostMemory } from './host-memory.ts'
import { Network } from './network.ts'
import { TensorrtObject } from './object.ts'
import { type BuildProgress, ProgressMonitor } from './progress-monitor.ts'
import type { Tensorrt } from './tensorrt.ts'

/** NetworkDefinitionCreationFlag: 1 << kSTRONGLY_TYPED. Types then come from the model, FP8 among them. 11 knows no other. */
const stronglyTyped = 1 << 1

export interface BuildOptions {
  readonly onProgress?: (progress: BuildProgress) => void
  /** Ends the build at its next step. */
  readonly signal?: AbortSignal | undefined
}

export class Builder extends TensorrtObject {
  /** @throws {EmbedError} TENSORRT_FAILED, TENSORRT_VERSION */
  constructor(tensorrt: Tensorrt) {
    super(tensorrt, 'a TensorRT builder', tensorrt.createInferBuilder())
  }

  /** A strongly typed network. @throws {EmbedError} TENSORRT_FAILED */
  createNetwork(): Network {
    const flags = this.tensorrt.version.major === 10 ? stronglyTyped : 0
    const handle = this.callChecked('IBuilder::createNetworkV2', flags)
    return new Network(this.tensorrt, 'a TensorRT network', handle, this)
  }

  /** @throws {EmbedError} TENSORRT_FAILED */
  createConfig(): BuilderConfig {
    const handle = this.callChecked('IBuilder::createBuilderConfig')
    return new BuilderConfig(this.tensorrt, 'a builder configuration', handle, this)
  }

  /** @throws {EmbedError} TENSORRT_FAILED */
  createProfile(): OptimizationProfile {
    const handle = this.callChecked('IBuilder::createOptimizationProfile')
    return new OptimizationProfile(this.tensorrt, 'an optimization profile', handle, this)
  }

  /** Takes seconds to minutes, off the event loop, which must turn for log and progress. The parser that read the network
   * holds its weights: free it afterwards. The caller frees the plan.
   * @throws {EmbedError} TENSORRT_FAILED with TensorRT's words, REQUEST_CANCELLED */
  async build(network: Network, config: BuilderConfig, options: BuildOptions = {}): Promise<HostMemory> {
    const api = 'IBuilder::buildSerializedNetwork'
    const { onProgress, signal } = options
    checkNotAborted(signal)
    // Every step would wait for the event loop: only where somebody listens.
    const isWatched = onProgress !== undefined || signal !== undefined
    using monitor = isWatched ? new ProgressMonitor(onProgress, signal) : undefined
    config.setProgressMonitor(monitor)
    try {
      const plan = await this.callAsync(api, [network, config], network.handle, config.handle)
      if (plan === null) checkNotAborted(signal)
      return new HostMemory(this.tensorrt, this.tensorrt.need(api, plan))
    } finally {
      config.setProgressMonitor(undefined)
    }
  }
}

function checkNotAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {})
}
