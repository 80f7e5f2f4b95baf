/** quality: whether the vectors of this machine's fast engine are still those of the model. */
import { EmbedError } from '../errors.ts'
import { startPipeline } from '../serving/pipeline/start-pipeline.ts'
import { judgePipeline, referenceName } from '../tuning/quality/assess-pipeline.ts'
import { formatQuality } from '../tuning/quality/judge-quality.ts'
import { makeQualityTexts } from '../tuning/quality/quality-texts.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import { readNumberFlag } from './number-flag.ts'
import { createProgressLine } from './progress-bar.ts'

export const qualityCommand: Command = {
  name: 'quality',
  summary: "Compare an engine's vectors with those of onnx at fp32",
  usage: 'quality [flags]',
  details: [
    'Cosine (worst, mean, by length), overlap of the ten nearest neighbours, length of the vectors, NaN on odd texts, and',
    'whether a text gives the same alone and in a batch. Exit code 1 when one fails; one JSON line at the end.',
    'The texts are generated: this checks arithmetic, not how well the model retrieves.',
  ],
  knobs: ['model', 'engine', 'precision', 'minCosine', 'threads', 'streams', 'cacheDir', 'offline'],
  flags: {
    texts: { type: 'string', placeholder: 'number', description: 'Texts to search among (default 256)' },
    json: { type: 'boolean', description: 'Print the JSON line only' },
  },
  async run(input) {
    const { config, flags, positionals, signal } = input
    if (positionals.length > 0) {
      throw new EmbedError('USAGE', { reason: `quality takes no '${positionals[0]}'; see 'quality --help'` })
    }
    const count = readNumberFlag(flags, 'texts', 256)
    if (!Number.isInteger(count) || count < 20) {
      throw new EmbedError('USAGE', { reason: `--texts is ${count}; it takes a whole number of at least 20` })
    }
    const texts = makeQualityTexts(count)
    const cacheDir = chooseCacheDir(input)
    const line = createProgressLine(process.stderr)
    const { pipeline, startup } = await startPipeline(config, {
      cacheDir,
      signal,
      cudaSearch: chooseCudaSearch(input),
    })
    await using owned = pipeline
    for (const note of startup.notes) process.stderr.write(`${note}\n`)
    const { spec, engine } = owned
    try {
      const { report, checks, passed } = await judgePipeline({
        pipeline: owned,
        config,
        texts,
        cacheDir,
        signal,
        onText: (what, done, of) => line.update(`${what} ${done} of ${of}`),
      })
      line.stop()
      const { name, precision } = engine.info
      if (flags['json'] !== true) {
        process.stdout.write(
          `${spec.id}, ${name} ${precision} beside ${referenceName}\n${formatQuality(report, checks)}\n`,
        )
      }
      const record = {
        model: spec.id,
        engine: name,
        precision,
        reference: referenceName,
        passed,
        checks,
        report,
      }
      process.stdout.write(`${JSON.stringify(record)}\n`)
      return passed ? 0 : 1
    } finally {
      line.stop()
    }
  },
}
