/** The model that a command was given: fetched when needed, and read. */
import { pullModel, type PulledModel } from '../model/pull.ts'
import { loadModelSpec, type ModelSpec } from '../model/spec.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { CommandInput } from './command.ts'
import { createProgressBar } from './progress-bar.ts'

/** @throws {EmbedError} as pullModel and loadModelSpec */
export async function openModel(input: CommandInput): Promise<ModelSpec> {
  return (await fetchModel(input)).spec
}

/** openModel, and where it came from. */
export async function fetchModel(
  input: CommandInput,
): Promise<{ readonly spec: ModelSpec; readonly source: PulledModel['source'] }> {
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
  return { spec: await loadModelSpec(model.folder, { id: model.id, cacheDir }), source: model.source }
}
