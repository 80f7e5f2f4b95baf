/** ONNX Runtime and what is opened of it, freed together. */
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
import { openLibrary } from '../rectangular/open-library.ts'
import type { ModelPorts } from '../rectangular/model-ports.ts'
import type { RectangleRunner } from '../rectangular/rectangular-engine.ts'
import { createOnnxRunner } from './onnx-runner.ts'

export interface SessionOptions {
  /** The session writes the times of its nodes to a file whose name begins so. */
  readonly profilePrefix?: string | undefined
}

export interface OpenOnnxRuntime extends Disposable {
  readonly api: Onnxruntime
  /** Reads and optimises a model off the event loop. @throws {EmbedError} ONNXRUNTIME_STATUS */
  createSession(onnxPath: string, threads: number, options?: SessionOptions): Promise<OrtSession>
  createRunner(session: OrtSession, ports: ModelPorts, padTokenId: number): RectangleRunner
}

/** @param libraryPath default: the one that the onnxruntime-node package carries
 * @throws {EmbedError} ENGINE_UNAVAILABLE, LIBRARY_NOT_FOUND, ONNXRUNTIME_STATUS */
export function openOnnxRuntime(libraryPath = findOnnxruntimeLibrary()): OpenOnnxRuntime {
  const fix = 'reinstall the package onnxruntime-node for this platform'
  const api = openLibrary('onnx', libraryPath, loadOnnxruntime, fix)
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
    return {
      api,
      createSession: async (onnxPath, threads, options = {}) =>
        owned(await loadSession(api, env, onnxPath, threads, options), api.ReleaseSession),
      createRunner(session, ports, padTokenId) {
        const runOptions = owned(
          readOut<OrtRunOptions>((out) => api.CreateRunOptions(out)),
          api.ReleaseRunOptions,
        )
        return createOnnxRunner(api, { session, runOptions, memoryInfo }, ports, padTokenId)
      },
      [Symbol.dispose]: dispose,
    }
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
  { profilePrefix }: SessionOptions,
): Promise<OrtSession> {
  const options = readOut<OrtSessionOptions>((out) => api.CreateSessionOptions(out))
  try {
    api.SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL)
    api.SetIntraOpNumThreads(options, threads)
    api.SetInterOpNumThreads(options, 1)
    // Workers that never spin cost 20-40 % on small batches, workers that spin on between batches burn a core that
    // the event loop and the tokenizer need: 1 ms bridges the gap between two batches under load.
    api.AddSessionConfigEntry(options, 'session.intra_op.spin_duration_us', '1000')
    if (profilePrefix !== undefined) api.EnableProfiling(options, profilePrefix)
    return await readOutAsync<OrtSession>((out) => api.CreateSession.async(env, onnxPath, options, out))
  } finally {
    api.ReleaseSessionOptions(options)
  }
}
