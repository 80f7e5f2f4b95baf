/** embed: texts from arguments, stdin or a file to vectors on stdout or in a file. */
import { type CorpusFormat, corpusFormats, type EmptyPolicy, emptyPolicies } from '../bulk/corpus.ts'
import { embedCorpus } from '../bulk/embed-corpus.ts'
import type { BulkProgress } from '../bulk/progress.ts'
import { type VectorFormat, vectorFormats } from '../bulk/vectors.ts'
import { EmbedError } from '../errors.ts'
import { appendFloat32Array } from '../float32-text.ts'
import type { EmbeddingPipeline } from '../serving/pipeline/embedding-pipeline.ts'
import { startPipeline } from '../serving/pipeline/start-pipeline.ts'
import { chooseCacheDir } from './cache-dir.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import type { Command, CommandInput } from './command.ts'
import { createProgressBar, createProgressLine } from './progress-bar.ts'

export const embedCommand: Command = {
  name: 'embed',
  summary: 'Embed texts from arguments, stdin or a file',
  usage: 'embed [text ...] [--input FILE|-] [--output FILE] [flags]',
  details: [
    "  akidb-embedding embed 'The sky is blue'                    one JSON line a text on stdout",
    '  akidb-embedding embed --input docs.csv --text-column body --output docs.parquet',
    '  cat lines.txt | akidb-embedding embed --input - --output lines.npy',
    '',
    'In: .txt (a text a line), .jsonl, .csv, .parquet. Out: .jsonl, .npy, .parquet. A run that was broken off goes on',
    'where its last checkpoint was when the same command is given again.',
  ],
  knobs: [
    'model',
    'engine',
    'precision',
    'threads',
    'streams',
    'maxBatchSize',
    'maxBatchTokens',
    'truncation',
    'cacheDir',
    'offline',
  ],
  flags: {
    input: { type: 'string', placeholder: 'file|-', description: 'File to read, or - for stdin' },
    output: {
      type: 'string',
      placeholder: 'file',
      description: 'File to write; its ending tells the format',
    },
    'input-format': {
      type: 'string',
      placeholder: corpusFormats.join('|'),
      description: 'Format of the input when its ending does not tell',
    },
    'output-format': {
      type: 'string',
      placeholder: vectorFormats.join('|'),
      description: 'Format of the output when its ending does not tell',
    },
    'text-column': {
      type: 'string',
      placeholder: 'name',
      description: "Column or key of the text (default 'text')",
    },
    'id-column': { type: 'string', placeholder: 'name', description: 'Column or key of an id to carry over' },
    'on-empty': {
      type: 'string',
      placeholder: emptyPolicies.join('|'),
      description: 'Stop at a record without a text, or leave it out (default error)',
    },
    'with-texts': { type: 'boolean', description: 'Put the texts beside the vectors' },
    resume: {
      type: 'boolean',
      description: 'Go on with a broken-off run (default; --no-resume starts anew)',
    },
    prompt: { type: 'string', placeholder: 'name', description: "Name of one of the model's prompts" },
    dimensions: {
      type: 'string',
      placeholder: 'number',
      description: 'Cut the vectors to this length (Matryoshka models)',
    },
  },
  async run(input) {
    const { flags, positionals } = input
    const options = readOptions(input)
    if (positionals.length > 0 === (flags['input'] !== undefined)) {
      const reason = "give texts as arguments or a file with --input, one of the two: embed 'some text'"
      throw new EmbedError('USAGE', { reason })
    }
    if (flags['input'] !== undefined && flags['output'] === undefined) {
      throw new EmbedError('USAGE', { reason: '--input needs --output: a .jsonl, .npy or .parquet file' })
    }
    const bar = createProgressBar(process.stderr)
    const { pipeline, startup } = await startPipeline(input.config, {
      cacheDir: chooseCacheDir(input),
      signal: input.signal,
      onProgress: (progress) => bar.update(progress),
      cudaSearch: chooseCudaSearch(input),
    }).finally(() => bar.stop())
    await using owned = pipeline
    for (const note of startup.notes) process.stderr.write(`${note}\n`)
    if (flags['input'] === undefined) await embedArguments(owned, input, options)
    else await embedFile(owned, input, options)
    return 0
  },
}

interface VectorOptions {
  readonly promptName: string | undefined
  readonly dimensions: number | undefined
  readonly truncation: 'none' | 'left' | 'right'
}

function readOptions({ config, flags }: CommandInput): VectorOptions {
  const text = flags['dimensions']
  const dimensions = text === undefined ? undefined : Number(text)
  if (dimensions !== undefined && !Number.isInteger(dimensions)) {
    throw new EmbedError('USAGE', { reason: `--dimensions is '${text}'; it takes a whole number` })
  }
  return {
    promptName: flags['prompt'] as string | undefined,
    dimensions,
    truncation: config.truncation === 'auto' ? 'right' : config.truncation,
  }
}

async function embedArguments(
  pipeline: EmbeddingPipeline,
  input: CommandInput,
  options: VectorOptions,
): Promise<void> {
  const { positionals, signal } = input
  const { vectors, truncatedInputs } = await pipeline.embed({ inputs: positionals, ...options, signal })
  if (truncatedInputs > 0) process.stderr.write(`${truncatedInputs} texts were cut to the model's length\n`)
  const lines = vectors.map(
    (vector, i) => `{"text":${JSON.stringify(positionals[i])},"embedding":${appendFloat32Array(vector)}}\n`,
  )
  const output = input.flags['output'] as string | undefined
  if (output === undefined) process.stdout.write(lines.join(''))
  else
    throw new EmbedError('USAGE', {
      reason: '--output goes with --input; redirect stdout to keep vectors of arguments',
    })
}

async function embedFile(
  pipeline: EmbeddingPipeline,
  input: CommandInput,
  options: VectorOptions,
): Promise<void> {
  const { flags, signal } = input
  const { spec, engine } = pipeline
  const output = flags['output'] as string
  const line = createProgressLine(process.stderr)
  const result = await embedCorpus({
    input: flags['input'] as string,
    output,
    // Large lists wait for their turn however long the whole takes: a file has no deadline.
    embed: async (texts, callSignal) => {
      const timeoutMs = 2 ** 31 - 1
      const done = await pipeline.embed({ inputs: texts, ...options, signal: callSignal, timeoutMs })
      return { vectors: done.vectors, tokens: done.tokens, truncated: done.truncatedInputs }
    },
    dimensions: options.dimensions ?? spec.dimensions,
    modelHash: spec.contentHash,
    identity: {
      engine: engine.info.name,
      precision: engine.info.precision,
      truncation: options.truncation,
      prompt: options.promptName ?? '',
      'text-column': (flags['text-column'] as string | undefined) ?? 'text',
    },
    metadata: { model: spec.id, precision: engine.info.precision },
    resume: flags['resume'] !== false,
    withTexts: flags['with-texts'] === true,
    onProgress: (progress) => line.update(formatProgress(progress)),
    signal,
    ...readChoice(flags, 'on-empty', emptyPolicies, (onEmpty: EmptyPolicy) => ({ onEmpty })),
    ...readChoice(flags, 'input-format', corpusFormats, (format: CorpusFormat) => ({ inputFormat: format })),
    ...readChoice(flags, 'output-format', vectorFormats, (format: VectorFormat) => ({
      outputFormat: format,
    })),
    ...(flags['text-column'] === undefined ? {} : { textColumn: flags['text-column'] as string }),
    ...(flags['id-column'] === undefined ? {} : { idColumn: flags['id-column'] as string }),
  }).finally(() => line.stop())
  const seconds = (result.elapsedMs / 1000).toFixed(1)
  const parts = [
    `${result.records} vectors of ${options.dimensions ?? spec.dimensions} in ${output}`,
    `${seconds} s, ${result.recordsPerSecond.toFixed(0)} texts/s, ${result.tokensPerSecond.toFixed(0)} tokens/s`,
    ...(result.resumedRecords > 0 ? [`${result.resumedRecords} were there from an earlier run`] : []),
    ...(result.truncated > 0 ? [`${result.truncated} texts were cut to ${spec.maxTokens} tokens`] : []),
    ...(result.skipped > 0 ? [`${result.skipped} records without a text were left out`] : []),
  ]
  process.stdout.write(`${parts.join('\n')}\n`)
}

function readChoice<Value extends string, Result extends object>(
  flags: CommandInput['flags'],
  name: string,
  values: readonly Value[],
  toResult: (value: Value) => Result,
): Result | Record<string, never> {
  const text = flags[name]
  if (text === undefined) return {}
  const value = values.find((known) => known === text)
  if (value === undefined) {
    throw new EmbedError('USAGE', { reason: `--${name} is '${text}'; it takes ${values.join(', ')}` })
  }
  return toResult(value)
}

function formatProgress(progress: BulkProgress): string {
  const { records, doneRatio, remainingMs, recordsPerSecond, tokensPerSecond } = progress
  const share = doneRatio === undefined ? '' : `${(doneRatio * 100).toFixed(1).padStart(5)} %  `
  const left = remainingMs === undefined ? '' : `  ${Math.ceil(remainingMs / 1000)} s left`
  return `${share}${records} texts  ${recordsPerSecond.toFixed(0)} texts/s  ${tokensPerSecond.toFixed(0)} tokens/s${left}`
}
