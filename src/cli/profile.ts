/** profile: where the time goes, in the requests' stages and in the engine's kernels or nodes. */
import { createWriteStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline as connect } from 'node:stream/promises'
import { EmbedError, toReason } from '../errors.ts'
import { findCudaLibrary } from '../hardware/machine/cuda-libraries.ts'
import { GpuMonitor } from '../hardware/machine/gpu-monitor.ts'
import { readMachine, sampleMachine } from '../tuning/measure/machine-state.ts'
import { formatEngineProfile } from '../tuning/profiler/format-engine-profile.ts'
import { formatTimes } from '../tuning/profiler/format-profile.ts'
import { profileEngine } from '../tuning/profiler/profile-engine.ts'
import { formatTrace } from '../tuning/profiler/trace.ts'
import { makeWorkload } from './bench-scenarios.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command, CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import { findCupti } from './find-cupti.ts'
import { measureGpu } from './measure-limits.ts'
import { runUnderNsys } from './nsys.ts'
import { readNumberFlag } from './number-flag.ts'
import { createProgressLine } from './progress-bar.ts'

export const profileCommand: Command = {
  name: 'profile',
  summary: 'Show where the time goes: stages, kernels of a GPU, nodes of a CPU',
  usage: 'profile [--texts N] [--texts-per-request N] [flags]',
  details: [
    '  akidb-embedding profile                                       one text of 128 tokens at a time',
    '  akidb-embedding profile --texts mix --clients 16              traffic of mixed lengths',
    '  akidb-embedding profile --engine cuda --texts 512 --texts-per-request 32 --trace trace.json',
    '',
    'Prints tables in the columns of nsys stats, what is met and what is not, and what to try next.',
    'https://ui.perfetto.dev opens the trace. docs/profiling.md reads a profile line by line.',
  ],
  knobs: [
    'model',
    'engine',
    'precision',
    'threads',
    'streams',
    'maxBatchSize',
    'maxBatchTokens',
    'batchTimeoutMs',
    'tokenizerWorkers',
    'cudaGraphs',
    'cacheDir',
    'offline',
  ],
  flags: {
    texts: {
      type: 'string',
      placeholder: 'tokens|mix|file',
      description:
        'Texts of so many tokens, of mixed lengths, or those of a file (.txt .jsonl .csv .parquet) (default 128)',
    },
    'texts-per-request': {
      type: 'string',
      placeholder: 'number',
      description: 'Length of the lists (default 1)',
    },
    clients: { type: 'string', placeholder: 'number', description: 'Requests at once (default 1)' },
    iterations: {
      type: 'string',
      placeholder: 'number',
      description: 'Requests that are recorded, after a tenth as many that are not (default 100)',
    },
    rows: { type: 'string', placeholder: 'number', description: 'Rows of a table (default 15)' },
    api: { type: 'boolean', description: "Record calls of CUDA's API too, which slows the run down" },
    kernels: {
      type: 'boolean',
      description: 'Record the kernels of a GPU (default); --no-kernels leaves the GPU to another profiler',
    },
    nsys: {
      type: 'boolean',
      description: 'Record kernels by Nsight Systems, where CUPTI may not be used (a Jetson)',
    },
    json: { type: 'string', placeholder: 'file', description: 'Write all numbers as JSON' },
    trace: { type: 'string', placeholder: 'file', description: 'Write a trace for ui.perfetto.dev' },
  },
  async run(input) {
    const { flags, positionals } = input
    if (positionals.length > 0) {
      throw new EmbedError('USAGE', { reason: `profile takes no '${positionals[0]}'; see 'profile --help'` })
    }
    if (flags['nsys'] === true) {
      const { text, tables } = await runUnderNsys(input)
      say(text)
      for (const rows of [tables.kernels, tables.memoryOperations, tables.apiCalls]) {
        if (rows.length > 0) say(`\n${formatTimes(rows, readCount(flags, 'rows', 15))}`)
      }
      return 0
    }
    const { profile, records, notes } = await profileWith(input)
    for (const note of notes) process.stderr.write(`${note}\n`)
    say(formatEngineProfile(profile, { maxRows: readCount(flags, 'rows', 15) }))
    if (flags['json'] !== undefined) {
      const record = {
        date: new Date().toISOString(),
        machine: readMachine(),
        ...sampleMachine(),
        ...profile,
      }
      await writeOut(String(flags['json']), (path) => writeFile(path, `${JSON.stringify(record)}\n`))
    }
    if (flags['trace'] !== undefined) {
      await writeOut(String(flags['trace']), (path) =>
        connect(Readable.from(formatTrace(records)), createWriteStream(path)),
      )
    }
    return 0
  },
}

async function profileWith(input: CommandInput) {
  const { config, flags, signal } = input
  const cudaSearch = chooseCudaSearch(input)
  const textsPerRequest = readCount(flags, 'texts-per-request', 1)
  const iterations = readCount(flags, 'iterations', 100)
  const clients = readCount(flags, 'clients', 1)
  const nvmlPath = findCudaLibrary('libnvidia-ml', cudaSearch).found?.path
  using gpuMonitor = new GpuMonitor({ nvmlPath, sampleMs: 0 })
  const line = createProgressLine(process.stderr)
  try {
    return await profileEngine(config, {
      start: { cacheDir: chooseCacheDir(input), signal, cudaSearch },
      makeWorkload: (countTokens) =>
        makeWorkload(String(flags['texts'] ?? '128'), { countTokens, textsPerRequest }),
      iterations,
      clients,
      ...(flags['kernels'] === false ? {} : { findCupti: () => findCupti(cudaSearch) }),
      apiCalls: flags['api'] === true,
      readGpus: () => gpuMonitor.read(),
      measurePeak: () => measureGpu(input),
      signal,
      onProgress: (stage, done, of) => line.update(`${stage}: ${done} of ${of}`),
    })
  } finally {
    line.stop()
  }
}

/** @throws {EmbedError} USAGE */
function readCount(flags: CommandInput['flags'], name: string, byDefault: number): number {
  const count = readNumberFlag(flags, name, byDefault)
  if (Number.isInteger(count)) return count
  throw new EmbedError('USAGE', { reason: `--${name} has '${count}'; it takes a whole number` })
}

async function writeOut(path: string, write: (path: string) => Promise<void>): Promise<void> {
  await write(path).catch((cause: unknown) => {
    const fix = 'give a file in a folder that exists and may be written'
    throw new EmbedError('FILE_UNWRITABLE', { path, reason: toReason(cause), fix }, { cause })
  })
  process.stderr.write(`wrote ${path}\n`)
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
