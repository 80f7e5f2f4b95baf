/** tune: finds the fastest configuration of this machine, step by step, and writes down how. */
import { existsSync } from 'node:fs'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Config } from '../config/schema.ts'
import { EmbedError, toReason } from '../errors.ts'
import { hasNvidiaDevice } from '../hardware/machine/gpu.ts'
import { hasSyntheticWeights } from '../model/synthetic-weights.ts'
import type { ModelSpec } from '../model/spec.ts'
import { canAffordFp32 } from '../serving/pipeline/reference-golden.ts'
import { Journal, type JournalEntry, type RunFacts, readJournal } from '../tuning/tuner/journal.ts'
import { type PreflightItem, formatPreflight, preflight } from '../tuning/tuner/preflight.ts'
import {
  type Machine,
  type Stage,
  baselineSettings,
  chooseEngines,
  planStages,
} from '../tuning/tuner/search-space.ts'
import type { Settings } from '../tuning/tuner/side.ts'
import {
  type SideProcessOptions,
  createSideProfiler,
  createSideStarter,
} from '../tuning/tuner/side-process.ts'
import { formatReach } from '../tuning/tuner/target-limits.ts'
import { type Target, defaultTargets, hasMissedTarget, readTargets } from '../tuning/tuner/targets.ts'
import { type TuneResult, tune } from '../tuning/tuner/tune.ts'
import { type TunedKey, assertTunedFits, writeTunedFile } from '../tuning/tuner/tuned-config.ts'
import { chooseCacheDir } from './cache-dir.ts'
import { readClients } from './clients-flag.ts'
import type { Command, CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import { findCupti } from './find-cupti.ts'
import type { Finding } from './finding.ts'
import { inspectGpus } from './inspect-gpus.ts'
import { measureLimits } from './measure-limits.ts'
import { measureScales } from './measure-scales.ts'
import { readNumberFlag } from './number-flag.ts'
import { createProgressLine } from './progress-bar.ts'
import { createTuneReporter } from './tune-progress.ts'
import { writeResults } from './tune-results.ts'
import { readTunedModel, sharedSettings } from './tuned-key.ts'

export const tuneCommand: Command = {
  name: 'tune',
  summary: 'Find the fastest configuration for this model on this machine, with a report',
  usage: 'tune [--minutes N] [--engines a,b] [--stages a,b] [--resume] [flags]',
  details: [
    '  akidb-embedding tune --output tuned          about ten minutes, then: serve --tuned tuned/tuned.json',
    '',
    'Starts from the plain service, changes one thing at a time, keeps what is faster beyond noise and as exact, and',
    'writes journal.jsonl, tuned.json, report.md, report.html and tuning-guide.md. docs/tuning.md tells how.',
    'Exit code 1 when a target was missed.',
  ],
  knobs: [
    'model',
    'revision',
    'minCosine',
    'cacheDir',
    'offline',
    'openvinoLibrary',
    'tensorrtLibrary',
    'engineCachePath',
    'scales',
  ],
  flags: {
    output: { type: 'string', placeholder: 'folder', description: 'Where the results go (default tuned)' },
    minutes: {
      type: 'string',
      placeholder: 'number',
      description: 'How long the run may take, the comparison at the end included (default 10)',
    },
    trials: { type: 'string', placeholder: 'number', description: 'Stop after so many experiments' },
    engines: {
      type: 'string',
      placeholder: 'a,b,...',
      description:
        'Engines to try; the plain service of the first is the baseline (default: what may run here)',
    },
    stages: { type: 'string', placeholder: 'a,b,...', description: 'Only these stages (default all)' },
    targets: { type: 'string', placeholder: 'file', description: 'JSON list of targets to judge by' },
    resume: { type: 'boolean', description: 'Go on with the run whose journal is in the output folder' },
    report: { type: 'boolean', description: 'Only write the reports of a finished run anew' },
    clients: {
      type: 'string',
      placeholder: 'n,n,...',
      description: 'Closed loops to measure with (default 1,4,16)',
    },
    rounds: {
      type: 'string',
      placeholder: 'number',
      description: 'Rounds of the comparison at the end, six at least (default 12)',
    },
    'round-ms': {
      type: 'string',
      placeholder: 'ms',
      description: 'Length of one round of one loop (default 200)',
    },
  },
  async run(input) {
    const { config, flags, signal, positionals } = input
    if (positionals.length > 0) {
      throw new EmbedError('USAGE', { reason: `tune takes no '${positionals[0]}'; see 'tune --help'` })
    }
    const folder = String(flags['output'] ?? 'tuned')
    const targets =
      flags['targets'] === undefined ? defaultTargets : await readTargets(String(flags['targets']))
    if (flags['report'] === true) return writeResults(folder, targets)
    const { clients, roundMs, minutes, finalRounds, maxTrials } = readEffort(flags)
    const { spec, key } = await readTunedModel(input)
    const asked = textFlag(flags, 'engines')
    // Who names an engine of the GPU knows that there is one, wherever the system hides it.
    const hasGpu = hasNvidiaDevice() || /tensorrt|cuda/.test(asked ?? '')
    const machine = { usableCores: key.usableCores, hasGpu }
    const engines = chooseEngines(machine, !(await canAffordFp32(spec)), asked)
    const stages = planStages(machine, engines, textFlag(flags, 'stages')?.split(','))
    await makeFolder(folder)
    const journalPath = join(folder, 'journal.jsonl')
    const earlier = await readEarlier(journalPath, flags['resume'] === true, key)
    await prepareScales(input, spec, { engines, stages, earlier })
    const facts = await findFacts(input, { folder, machine, engines, spec, earlier })
    process.stdout.write(`${formatPreflight(facts.checklist)}\n\n${formatReach(facts.limits, targets)}\n\n`)

    // A driver that does not answer is told by the engines that need it.
    const cupti = hasGpu ? await findCupti(chooseCudaSearch(input)).catch(() => undefined) : undefined
    const sideOptions: SideProcessOptions = {
      shared: sharedSettings(config),
      cacheDir: chooseCacheDir(input),
      cudaSearch: chooseCudaSearch(input),
      clients,
      moreClients: clientsOfTargets(targets).filter((count) => !clients.includes(count)),
      roundMs,
      qualityTexts: 64,
      signal,
      ...(engines.includes('tensorrt') ? { startTimeoutMs: buildTimeoutMs } : {}),
      ...(cupti === undefined ? {} : { cupti }),
    }
    const line = createProgressLine(process.stderr)
    await using journal = await Journal.open(journalPath)
    try {
      const result = await tune({
        key,
        stages,
        facts,
        baseline: baselineSettings(machine, engines[0]),
        untuned: {},
        untunedConditions: untunedConditions(hasGpu, folder),
        start: createSideStarter(sideOptions),
        ...(engines[0] === 'onnx'
          ? { startPlainLoop: createSideStarter(plainLoopOptions(sideOptions)) }
          : {}),
        profile: createSideProfiler(sideOptions),
        journal,
        earlier,
        budgetMs: minutes * 60_000,
        finalRounds,
        maxTrials,
        memoryLimits: {
          rssBytes: targets.find(({ metric }) => metric === 'rssBytes')?.atMost,
          gpuBytes: targets.find(({ metric }) => metric === 'gpuBytes')?.atMost,
        },
        isTargetMissed: (final) => hasMissedTarget(final, targets),
        signal,
        onEvent: createTuneReporter(minutes, line),
      })
      line.stop()
      await writeTuned(join(folder, 'tuned.json'), { key, result, config, roundMs })
    } catch (error) {
      line.stop()
      if (!signal.aborted) throw error
      process.stdout.write(`stopped; 'tune --resume --output ${folder}' goes on\n`)
      return 130
    }
    return writeResults(folder, targets)
  },
}

/** One text after the other, so one client. */
function plainLoopOptions(options: SideProcessOptions): SideProcessOptions {
  return { ...options, clients: [1], moreClients: [], plainLoop: true }
}

/** What is wrong with a number is told before anything is measured. @throws {EmbedError} USAGE */
function readEffort(flags: CommandInput['flags']) {
  return {
    clients: readClients(flags, '1,4,16'),
    roundMs: readNumberFlag(flags, 'round-ms', 200),
    minutes: readNumberFlag(flags, 'minutes', 10),
    finalRounds: readFinalRounds(flags),
    maxTrials: flags['trials'] === undefined ? undefined : readNumberFlag(flags, 'trials', 1),
  }
}

/** A TensorRT plan of a large model takes minutes. */
const buildTimeoutMs = 600_000

function textFlag(flags: CommandInput['flags'], name: string): string | undefined {
  return flags[name] === undefined ? undefined : String(flags[name])
}

function clientsOfTargets(targets: readonly Target[]): number[] {
  return [...new Set(targets.flatMap(({ clients }) => clients ?? []))]
}

/** What serve takes by itself builds no TensorRT plan, so it must not find those that this run built. */
function untunedConditions(hasGpu: boolean, folder: string): Settings {
  if (!hasGpu) return { buildEngines: false }
  return { buildEngines: false, engineCachePath: resolve(folder, 'no-engines') }
}

/** fp8 on a GPU needs activation scales. Where they cannot be had, its candidates fail and say so; the run goes on. */
async function prepareScales(
  input: CommandInput,
  spec: ModelSpec,
  run: {
    readonly engines: readonly string[]
    readonly stages: readonly Stage[]
    readonly earlier: readonly JournalEntry[]
  },
): Promise<void> {
  const usesGpu = run.engines.some((name) => name === 'cuda' || name === 'tensorrt')
  const triesFp8 = run.stages.some(({ knobs }) => knobs.some(({ key }) => key === 'precision'))
  if (!usesGpu || !triesFp8 || run.earlier.length > 0 || input.config.scales !== undefined) return
  try {
    await measureScales(input, spec)
  } catch (error) {
    if (!(error instanceof EmbedError) || input.signal.aborted) throw error
    process.stdout.write(`note  fp8 will not start: ${error.message}\n\n`)
  }
}

/** Of the run that goes on; else found now, which takes some seconds. */
async function findFacts(
  input: CommandInput,
  run: {
    readonly folder: string
    readonly machine: Machine
    readonly engines: readonly string[]
    readonly spec: ModelSpec
    readonly earlier: readonly JournalEntry[]
  },
): Promise<RunFacts> {
  const begin = run.earlier.find((entry) => entry.kind === 'begin')
  if (begin !== undefined) return begin.facts
  const onGpu = run.machine.hasGpu && run.engines.some((name) => name === 'cuda' || name === 'tensorrt')
  return {
    checklist: [
      ...(await preflight(run.folder, run.machine)),
      ...(run.machine.hasGpu ? (await inspectGpus(input)).map(toChecklistItem) : []),
    ],
    limits: await measureLimits(input, run.spec, onGpu),
    hasSyntheticWeights: await hasSyntheticWeights(run.spec),
  }
}

function toChecklistItem({ level, subject, text, fix }: Finding): PreflightItem {
  const item = { name: subject, isFine: level === 'ok', text }
  return fix === undefined ? item : { ...item, fix }
}

async function writeTuned(
  path: string,
  run: {
    readonly key: TunedKey
    readonly result: TuneResult
    readonly config: Config
    readonly roundMs: number
  },
): Promise<void> {
  const { key, result, config, roundMs } = run
  const { final, incumbentId: id, settings } = result
  const { model, scales, engineCachePath } = config
  if (existsSync(path)) await copyFile(path, `${path}.backup`)
  await writeTunedFile(path, {
    version: 1,
    date: new Date().toISOString(),
    id,
    key,
    roundMs,
    // The model goes with them, so that serve --tuned needs no other flag.
    settings: {
      model,
      ...(scales === undefined ? {} : { scales }),
      ...(engineCachePath === undefined ? {} : { engineCachePath }),
      ...settings,
    },
    measured: Object.fromEntries(
      Object.entries(final.winner.scenarios).map(([name, figures]) => [
        name,
        { ...figures, expected: final.expected[name]! },
      ]),
    ),
  })
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true })
  } catch (cause) {
    const fix = 'give --output another folder'
    throw new EmbedError('FILE_UNWRITABLE', { path: folder, reason: toReason(cause), fix }, { cause })
  }
}

/** What the journal holds, when the run is to go on; else the journal must not be there yet. */
async function readEarlier(path: string, isResumed: boolean, key: TunedKey): Promise<JournalEntry[]> {
  if (!isResumed) {
    if (!existsSync(path)) return []
    throw new EmbedError('USAGE', {
      reason: `${path} is there already: go on with --resume, or give another --output`,
    })
  }
  const entries = await readJournal(path)
  const begin = entries.find((entry) => entry.kind === 'begin')
  if (begin !== undefined) {
    const tuned = { version: 1, date: '', id: '', key: begin.key, settings: {}, measured: {} } as const
    assertTunedFits(path, tuned, key)
  }
  // A line that a crash cut would glue itself to the next one.
  const text = await readFile(path, 'utf8').catch(() => '')
  const whole = text.slice(0, text.lastIndexOf('\n') + 1)
  if (whole !== text) await writeFile(path, whole)
  return entries
}

/** Fewer than six pairs can show no difference at 95 %. */
function readFinalRounds(flags: CommandInput['flags']): number {
  const rounds = readNumberFlag(flags, 'rounds', 12)
  if (Number.isInteger(rounds) && rounds >= 6) return rounds
  throw new EmbedError('USAGE', { reason: `--rounds is ${rounds}; it takes a whole number of at least 6` })
}
