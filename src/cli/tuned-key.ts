/** What a tuned configuration holds for: this model on this machine. */
import { readFileSync } from 'node:fs'
import type { Config } from '../config/schema.ts'
import { readCpu } from '../hardware/machine/cpu.ts'
import { loadModelSpec } from '../model/spec.ts'
import { pullModel } from '../model/pull.ts'
import type { Settings } from '../tuning/tuner/side.ts'
import type { TunedKey } from '../tuning/tuner/tuned-config.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { CommandInput } from './command.ts'

/** Fetches the model where it is not there yet. @throws {EmbedError} as pullModel and loadModelSpec */
export async function readTunedKey(input: CommandInput): Promise<TunedKey> {
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
  return toTunedKey(spec)
}

export function toTunedKey(spec: { readonly id: string; readonly contentHash: string }): TunedKey {
  const { model: cpu, usableCores } = readCpu()
  return { model: spec.id, modelHash: spec.contentHash, cpu, usableCores, packageVersion }
}

/** What every configuration that is tried has in common with the one that was asked for. */
export function sharedSettings(config: Config): Settings {
  const { model, revision, minCosine, offline, openvinoLibrary, hfToken, hfEndpoint } = config
  return {
    model,
    minCosine,
    offline,
    ...(revision === undefined ? {} : { revision }),
    ...(openvinoLibrary === undefined ? {} : { openvinoLibrary }),
    ...(hfToken === undefined ? {} : { hfToken }),
    ...(hfEndpoint === undefined ? {} : { hfEndpoint }),
  }
}

const packageVersion = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version
