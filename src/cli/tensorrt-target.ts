/** What the commands about TensorRT's plans begin with: the GPU, TensorRT, the cache, the settings of a model. */
import { join } from 'node:path'
import type { FindPlansOptions } from '../engines/tensorrt/ensure-plans.ts'
import { toOnnxSource } from '../engines/tensorrt/onnx-source.ts'
import { toPlanSettings } from '../engines/tensorrt/plan-settings.ts'
import { openTensorrt, type TensorrtMachine } from '../hardware/machine/tensorrt-library.ts'
import type { ModelSpec } from '../model/spec.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'

/** Knobs that decide on a plan, for the help of the commands. */
export const planKnobs = [
  'precision',
  'profiles',
  'profileTokens',
  'enginePerProfile',
  'tacticSources',
  'workspaceBytes',
  'builderOptimizationLevel',
  'embeddingTable',
  'scales',
] as const

export const machineKnobs = ['engineCachePath', 'tensorrtLibrary', 'deviceId', 'cacheDir'] as const

export function chooseEngineCache(input: CommandInput): string {
  return input.config.engineCachePath ?? join(chooseCacheDir(input), 'engines')
}

/** @throws {EmbedError} as openTensorrt */
export async function openMachine(input: CommandInput): Promise<TensorrtMachine> {
  return openTensorrt({
    search: chooseCudaSearch(input),
    library: input.config.tensorrtLibrary,
    deviceId: input.config.deviceId,
  })
}

/** @throws {EmbedError} CONFIG_INVALID, and as toOnnxSource */
export async function choosePlans(
  input: CommandInput,
  spec: ModelSpec,
  machine: TensorrtMachine,
): Promise<FindPlansOptions> {
  const { onnx, settings } = await toOnnxSource(spec, toPlanSettings(input.config, spec), {
    cacheDir: chooseCacheDir(input),
    scales: input.config.scales,
  })
  return { modelName: spec.id, onnx, settings, machine, cachePath: chooseEngineCache(input) }
}
