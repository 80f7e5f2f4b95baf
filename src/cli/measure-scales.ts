/** fp8 without scales that the user brings: they are measured on texts first. */
import { readCorpus } from '../bulk/read-corpus.ts'
import { readDefaultTexts } from '../engines/calibration/default-texts.ts'
import { ensureScales } from '../engines/ensure-scales.ts'
import { readCpu } from '../hardware/machine/cpu.ts'
import { EmbedError } from '../errors.ts'
import { type ActivationScales, loadActivationScales } from '../model/activation-scales.ts'
import type { ModelSpec } from '../model/spec.ts'
import { createTokenizer } from '../serving/tokenizer/worker-tokenizer.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { CommandFlag, CommandInput } from './command.ts'
import { createProgressBar, createProgressLine } from './progress-bar.ts'

export const measureFlags: Readonly<Record<string, CommandFlag>> = {
  'calibration-texts': {
    type: 'string',
    placeholder: 'file',
    description:
      'Texts to measure the scales of fp8 with: .txt, .jsonl, .csv, .parquet (default: a set of 143)',
  },
  'calibration-margin': {
    type: 'string',
    placeholder: 'number',
    description: 'What an unseen text may exceed the largest measured value by (default 1.25)',
  },
}

/** Most of a long text says no more than its beginning. */
const maxCalibrationTokens = 512

/** --scales, else the cache, else measured now; what was done is told on stderr.
 * @throws {EmbedError} USAGE, SCALES_INVALID, FILE_UNREADABLE, FILE_FORMAT, and as exportOnnx */
export async function measureScales(input: CommandInput, spec: ModelSpec): Promise<ActivationScales> {
  const { config, flags, signal } = input
  if (config.scales !== undefined) {
    const scales = await loadActivationScales(config.scales, spec.contentHash)
    if (scales.kind === 'fixed') say(`scales ${config.scales}: for synthetic weights, not for real vectors`)
    return scales
  }
  const bar = createProgressBar(process.stderr)
  const line = createProgressLine(process.stderr)
  const { scales, path, fromCache } = await ensureScales({
    spec,
    cacheDir: chooseCacheDir(input),
    sequences: await tokenize(
      spec,
      await readTexts(flags['calibration-texts'] as string | undefined, signal),
    ),
    threads: config.threads ?? readCpu().usableCores,
    margin: readMargin(flags['calibration-margin'] as string | undefined),
    signal,
    onProgress(progress) {
      if (progress.phase === 'export') {
        const { writtenBytes: receivedBytes, totalBytes } = progress
        bar.update({ file: 'fp32 model for the scales', receivedBytes, totalBytes, phase: 'write' })
      } else {
        bar.stop()
        line.update(`measuring scales: text ${progress.done + 1} of ${progress.total}`)
      }
    },
  }).finally(() => {
    bar.stop()
    line.stop()
  })
  const origin = fromCache
    ? 'from the cache'
    : `measured on ${scales.textCount} texts, ${scales.tokenCount} tokens`
  say(`scales ${path}: ${origin}`)
  return scales
}

async function readTexts(path: string | undefined, signal: AbortSignal): Promise<readonly string[]> {
  if (path === undefined) return readDefaultTexts()
  const texts: string[] = []
  for await (const { text } of readCorpus(path, { onEmpty: 'skip', signal })) texts.push(text)
  return texts
}

/** Each text with one of the model's prompts in turn, or none: scales must hold for queries and documents. */
async function tokenize(spec: ModelSpec, texts: readonly string[]): Promise<readonly Int32Array[]> {
  const prompts = [...new Set(['', ...Object.values(spec.prompts)])]
  await using tokenizer = await createTokenizer({
    tokenizerPath: spec.files.tokenizer,
    workerCount: 0,
    maxTextChars: Number.MAX_SAFE_INTEGER,
  })
  const encoded = await tokenizer.encode(
    texts.map((text, i) => prompts[i % prompts.length]! + text),
    { maxTokens: Math.min(spec.maxTokens, maxCalibrationTokens), truncation: 'right' },
  )
  return encoded.map(({ ids }) => Int32Array.from(ids))
}

function readMargin(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const margin = Number(text)
  if (margin >= 1 && margin < Infinity) return margin
  throw new EmbedError('USAGE', { reason: `--calibration-margin is '${text}'; it takes a number from 1 up` })
}

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}
