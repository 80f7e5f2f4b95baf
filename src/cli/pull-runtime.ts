/** pull-runtime: fetch the libraries of an engine into the cache. */
import { EmbedError } from '../errors.ts'
import { openvinoVersion, pullOpenvinoRuntime } from '../model/pull/openvino-runtime.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command } from './command.ts'
import { createProgressBar } from './progress-bar.ts'

export const pullRuntimeCommand: Command = {
  name: 'pull-runtime',
  summary: "Fetch an engine's libraries into the cache (openvino; needs Python's pip)",
  usage: 'pull-runtime openvino [flags]',
  knobs: ['cacheDir'],
  flags: {},
  async run(input) {
    const [runtime] = input.positionals
    if (runtime !== 'openvino') {
      const reason = `unknown runtime '${runtime ?? ''}'; known is openvino: pull-runtime openvino`
      throw new EmbedError('USAGE', { reason })
    }
    const bar = createProgressBar(process.stderr)
    const folder = await pullOpenvinoRuntime({
      cacheDir: chooseCacheDir(input),
      signal: input.signal,
      onProgress: (progress) => bar.update(progress),
    }).finally(() => bar.stop())
    process.stdout.write(`openvino ${openvinoVersion}: ${folder}\n`)
    return 0
  },
}
