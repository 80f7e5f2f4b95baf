/** What a tuned configuration holds for: this model on this machine. */
import { readFileSync } from 'node:fs'
import type { Config } from '../config/schema.ts'
import { EmbedError } from '../errors.ts'
import { readDevice } from '../hardware/gpu/device.ts'
import { readCpu } from '../hardware/machine/cpu.ts'
import { openCudaDriver } from '../hardware/machine/cuda-driver.ts'
import type { CudaSearchOptions } from '../hardware/machine/cuda-libraries.ts'
import { type ModelSpec, loadModelSpec } from '../model/spec.ts'
import { pullModel } from '../model/pull.ts'
import type { Settings } from '../tuning/tuner/side.ts'
import type { TunedKey } from '../tuning/tuner/tuned-config.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'

/** Fetches the model where it is not there yet. @throws {EmbedError} as pullModel and loadModelSpec */
export async function readTunedModel(input: CommandInput): Promise<{ spec: ModelSpec; key: TunedKey }> {
  const { offline, revision, hfToken: token, hfEndpoint: endpoint } = input.config
  const cacheDir = chooseCacheDir(input)
  const model = await pullModel(input.config.model, {
    cacheDir,
    offline,
    revision,
    token,
    endpoint,
    signal: input.signal,
  })
  const spec = await loadModelSpec(model.folder, { id: model.id, cacheDir })
  return { spec, key: await toTunedKey(spec, chooseCudaSearch(input)) }
}

async function toTunedKey(
  spec: Pick<ModelSpec, 'id' | 'contentHash'>,
  search: CudaSearchOptions,
): Promise<TunedKey> {
  const { model: cpu, usableCores } = readCpu()
  const gpu = await describeGpu(search)
  const { id: model, contentHash: modelHash } = spec
  return { model, modelHash, cpu, usableCores, packageVersion, ...(gpu === undefined ? {} : { gpu }) }
}

/** Undefined where the driver does not show one: then nothing can have been tuned for it. */
async function describeGpu(search: CudaSearchOptions): Promise<string | undefined> {
  try {
    const { cuda, driverVersion } = await openCudaDriver('tune', search)
    return `${readDevice(cuda, 0).name}, driver ${driverVersion}`
  } catch (error) {
    if (error instanceof EmbedError) return undefined
    throw error
  }
}

/** What every configuration that is tried has in common with the one that was asked for. */
export function sharedSettings(config: Config): Settings {
  const { model, revision, minCosine, offline, openvinoLibrary, hfToken, hfEndpoint } = config
  const { scales, engineCachePath, tensorrtLibrary } = config
  return {
    model,
    minCosine,
    offline,
    // A plan that a configuration needs is a part of it.
    buildEngines: true,
    ...(scales === undefined ? {} : { scales }),
    ...(engineCachePath === undefined ? {} : { engineCachePath }),
    ...(tensorrtLibrary === undefined ? {} : { tensorrtLibrary }),
    ...(revision === undefined ? {} : { revision }),
    ...(openvinoLibrary === undefined ? {} : { openvinoLibrary }),
    ...(hfToken === undefined ? {} : { hfToken }),
    ...(hfEndpoint === undefined ? {} : { hfEndpoint }),
  }
}

export const packageVersion: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version
