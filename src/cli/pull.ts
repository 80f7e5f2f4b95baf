/** pull: fetch a model into the cache and check that it can be served. */
import { ensureOnnx } from '../model/onnx-file.ts'
import { pullModel } from '../model/pull.ts'
import { loadModelSpec } from '../model/spec.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command } from './command.ts'
import { createProgressBar } from './progress-bar.ts'

export const pullCommand: Command = {
  name: 'pull',
  summary: 'Fetch a model into the cache',
  usage: 'pull [name|folder] [flags]',
  details: [
    '  akidb-embedding pull BAAI/bge-small-en-v1.5 --revision main',
    'A download that was broken off goes on where it stopped.',
  ],
  knobs: ['model', 'revision', 'cacheDir', 'offline', 'hfToken', 'hfEndpoint'],
  flags: {},
  async run(input) {
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
    const spec = await loadModelSpec(model.folder, { id: model.id, cacheDir })
    const onnxPath = await ensureOnnx(spec, cacheDir)
    process.stdout.write(
      `${spec.id} (${model.source}): ${spec.architecture}, ${spec.dimensions} dimensions, ${spec.maxTokens} tokens\n` +
        `  folder ${spec.folder}\n  onnx   ${onnxPath}\n`,
    )
    return 0
  },
}
