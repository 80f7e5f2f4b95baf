/** pull: fetch a model into the cache and check that it can be served. */
import { ensureOnnx } from '../model/onnx-file.ts'
import { canAffordFp32 } from '../serving/pipeline/reference-golden.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command } from './command.ts'
import { fetchModel } from './open-model.ts'

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
    const { spec, source } = await fetchModel(input)
    // The file of a large model takes minutes and four bytes a weight: it is made when an engine asks for it.
    const onnxPath = (await canAffordFp32(spec))
      ? await ensureOnnx(spec, chooseCacheDir(input))
      : 'when needed'
    process.stdout.write(
      `${spec.id} (${source}): ${spec.architecture}, ${spec.dimensions} dimensions, ${spec.maxTokens} tokens\n` +
        `  folder ${spec.folder}\n  onnx   ${onnxPath}\n`,
    )
    return 0
  },
}
