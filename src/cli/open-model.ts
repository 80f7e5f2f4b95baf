/** The model that a command was given: fetched when needed, and read. */
import { pullModel } from '../model/pull.ts'
import { loadModelSpec, type ModelSpec } from '../model/spec.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { CommandInput } from './command.ts'
import { createProgressBar } from './progress-bar.ts'

/** @throws {EmbedError} as pullModel and loadModelSpec */
export async function openModel(input: CommandInput): Promise<ModelSpec> {
  const { config, positionals, signal } = input
  const cacheDir = chooseCacheDir(input)
  const bar = createProgressBar(process.stderr)
  const model = await pullModel(positionals[0] ?? config.model, {
    cacheDir,
    offline: config.offline,
    signal,
    revision: config.revision,
    token: config.hfToken,
    endpoint: config.hfEndpoint,
    onProgress: (progress) => bar.update(progress),
  }).finally(() => bar.stop())
  return loadModelSpec(model.folder, { id: model.id, cacheDir })
}
