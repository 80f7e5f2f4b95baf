/** export: a Hugging Face folder to ONNX. */
import { mkdir, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { EmbedError } from '../errors.ts'
import type { ExportPrecision } from '../model/onnx/arithmetic.ts'
import { ensureExport, ensureExportAt } from '../model/onnx-file.ts'
import type { ExportOptions } from '../model/onnx-export.ts'
import { toWriteError } from '../model/pull/file-error.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command, CommandInput } from './command.ts'
import { measureFlags, measureScales } from './measure-scales.ts'
import { openModel } from './open-model.ts'
import { createProgressBar } from './progress-bar.ts'

export const exportCommand: Command = {
  name: 'export',
  summary: 'Write a model as ONNX, at fp32, bf16, fp16 or fp8',
  usage: 'export [name|folder] [--output FILE] [flags]',
  details: [
    '  akidb-embedding export BAAI/bge-small-en-v1.5 --precision fp16 --output bge.onnx',
    '  akidb-embedding export ./Qwen3-Embedding-4B --precision fp8 --pooled --output qwen3.onnx',
    '',
    'Inputs are input_ids and attention_mask, padding at the end; the output is last_hidden_state, or with --pooled',
    'sentence_embedding, not normalised. Weights of 2 GB or more go to FILE.data. An export that is there already for the',
    'same model and flags is kept. fp8 measures the scales of the activations on texts unless --scales gives them.',
  ],
  knobs: [
    'model',
    'revision',
    'precision',
    'scales',
    'embeddingTable',
    'threads',
    'cacheDir',
    'offline',
    'hfToken',
    'hfEndpoint',
  ],
  flags: {
    output: {
      type: 'string',
      placeholder: 'file',
      description: 'File to write (default: a place in the cache)',
    },
    pooled: {
      type: 'boolean',
      description: 'One vector a text instead of one a token; the last layer then computes less',
    },
    ...measureFlags,
  },
  async run(input) {
    const precision = choosePrecision(input)
    const output = input.flags['output'] as string | undefined
    const spec = await openModel(input)
    const bar = createProgressBar(process.stderr)
    const options: ExportOptions = {
      precision,
      output: input.flags['pooled'] === true ? 'pooled' : 'tokens',
      inputs: input.config.embeddingTable === 'host' ? 'embeddings' : 'ids',
      scales: precision === 'fp8' ? await measureScales(input, spec) : undefined,
      signal: input.signal,
      onProgress: ({ writtenBytes: receivedBytes, totalBytes }) =>
        bar.update({ file: 'model.onnx', receivedBytes, totalBytes, phase: 'write' }),
    }
    const { path, fromCache } = await (
      output === undefined
        ? ensureExport(spec, chooseCacheDir(input), options)
        : exportTo(resolve(output), (target) => ensureExportAt(spec, target, options))
    ).finally(() => bar.stop())
    const what = `${spec.id}, ${precision}, ${options.inputs} -> ${options.output}`
    const [bytes, dataBytes] = await Promise.all([sizeOf(path), sizeOf(`${path}.data`)])
    const size = `${((bytes + dataBytes) / 1e6).toFixed(1)} MB`
    process.stdout.write(`${path}\n  ${what}, ${size}${fromCache ? ', was there already' : ''}\n`)
    return 0
  },
}

function choosePrecision({ config, flags }: CommandInput): ExportPrecision {
  const precision = config.precision === 'auto' ? 'fp32' : config.precision
  if (precision === 'fp8-rowwise') {
    const reason =
      '--precision fp8-rowwise cannot be written as ONNX: its scales are found while it runs; take fp8'
    throw new EmbedError('USAGE', { reason })
  }
  const given = ['calibration-texts', 'calibration-margin'].find((name) => flags[name] !== undefined)
  if (given !== undefined && (precision !== 'fp8' || config.scales !== undefined)) {
    throw new EmbedError('USAGE', { reason: `--${given} goes with --precision fp8, without --scales` })
  }
  return precision
}

async function exportTo(
  path: string,
  write: (path: string) => Promise<boolean>,
): Promise<{ path: string; fromCache: boolean }> {
  await mkdir(dirname(path), { recursive: true }).catch((error: unknown) => {
    throw toWriteError(error, dirname(path))
  })
  return { path, fromCache: await write(path) }
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  )
}
