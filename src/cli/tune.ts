/** tune: finds the fastest configuration of this machine, step by step, and writes down how. */
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbedError, toReason } from '../errors.ts'
import { hasNvidiaDevice } from '../hardware/machine/gpu.ts'
import { type FinalComparison, Journal, type JournalEntry, readJournal } from '../tuning/tuner/journal.ts'
import { buildGuide } from '../tuning/tuner/guide.ts'
import { type PreflightItem, formatPreflight, preflight } from '../tuning/tuner/preflight.ts'
import { renderHtml, renderMarkdown } from '../tuning/tuner/render-report.ts'
import { buildReport, formatSettings, judgeStory, toStory } from '../tuning/tuner/report.ts'
import { baselineSettings, planStages } from '../tuning/tuner/search-space.ts'
import { createSideStarter } from '../tuning/tuner/side-process.ts'
import { type Target, defaultTargets, readTargets } from '../tuning/tuner/targets.ts'
import { type TuneEvent, tune } from '../tuning/tuner/tune.ts'
import {
  type TunedFile,
  type TunedKey,
  assertTunedFits,
  writeTunedFile,
} from '../tuning/tuner/tuned-config.ts'
import { chooseCacheDir } from './cache-dir.ts'
import type { Command, CommandInput } from './command.ts'
import { readNumberFlag } from './number-flag.ts'
import { createProgressLine } from './progress-bar.ts'
import { readTunedKey, sharedSettings } from './tuned-key.ts'

export const tuneCommand: Command = {
  name: 'tune',
  summary: 'Find the fastest configuration for this model on this machine, with a report',
  usage: 'tune [--minutes N] [--stages a,b] [--resume] [flags]',
  details: [
    '  akidb-embedding tune --output tuned          about ten minutes, then: serve --tuned tuned/tuned.json',
    '',
    'Starts from the plain service, changes one thing at a time, keeps what is faster beyond noise and as exact, and',
    'writes journal.jsonl, tuned.json, report.md, report.html and tuning-guide.md. docs/tuning.md tells how.',
    'Exit code 1 when a target was missed.',
  ],
  knobs: ['model', 'revision', 'minCosine', 'cacheDir', 'offline', 'openvinoLibrary'],
  flags: {
    output: { type: 'string', placeholder: 'folder', description: 'Where the results go (default tuned)' },
    minutes: { type: 'string', placeholder: 'number', description: 'Stop trying after so long (default 10)' },
    trials: { type: 'string', placeholder: 'number', description: 'Stop after so many experiments' },
    stages: { type: 'string', placeholder: 'a,b,...', description: 'Only these stages (default all)' },
    targets: { type: 'string', placeholder: 'file', description: 'JSON list of targets to judge by' },
    resume: { type: 'boolean', description: 'Go on with the run whose journal is in the output folder' },
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
    const key = await readTunedKey(input)
    const machine = { usableCores: key.usableCores, hasGpu: hasNvidiaDevice() }
    const stages = planStages(
      machine,
      flags['stages'] === undefined ? undefined : String(flags['stages']).split(','),
    )
    await makeFolder(folder)
    const journalPath = join(folder, 'journal.jsonl')
    const earlier = await readEarlier(journalPath, flags['resume'] === true, key)
    const checklist = await preflight(folder, machine)
    process.stdout.write(`${formatPreflight(checklist)}\n\n`)

    const minutes = readNumberFlag(flags, 'minutes', 10)
    const line = createProgressLine(process.stderr)
    await using journal = await Journal.open(journalPath)
    try {
      const result = await tune({
        key,
        stages,
        baseline: baselineSettings(machine),
        untuned: {},
        start: createSideStarter({
          shared: sharedSettings(config),
          cacheDir: chooseCacheDir(input),
          clients: readClients(flags),
          roundMs: readNumberFlag(flags, 'round-ms', 200),
          qualityTexts: 64,
        }),
        journal,
        earlier,
        budgetMs: minutes * 60_000,
        finalRounds: readFinalRounds(flags),
        maxTrials: flags['trials'] === undefined ? undefined : readNumberFlag(flags, 'trials', 1),
        maxMemoryBytes: targets.find(({ metric }) => metric === 'rssBytes')?.atMost,
        signal,
        onEvent: createReporter(minutes, line),
      })
      line.stop()
      const tunedPath = join(folder, 'tuned.json')
      await writeTunedFile(tunedPath, {
        version: 1,
        date: new Date().toISOString(),
        id: result.incumbentId,
        key,
        // The model goes with them, so that serve --tuned needs no other flag.
        settings: { model: config.model, ...result.settings },
        measured: withExpected(result.final),
      })
    } catch (error) {
      line.stop()
      if (!signal.aborted) throw error
      process.stdout.write(`stopped; 'tune --resume --output ${folder}' goes on\n`)
      return 130
    }
    return writeResults(folder, checklist, targets)
  },
}

/** @returns the exit code */
async function writeResults(
  folder: string,
  checklist: readonly PreflightItem[],
  targets: readonly Target[],
): Promise<number> {
  const story = toStory(await readJournal(join(folder, 'journal.jsonl')))!
  const report = buildReport(story, targets, checklist)
  const title = `Tuning of ${story.begin.key.model}`
  const tunedPath = join(folder, 'tuned.json')
  await writeFile(join(folder, 'report.md'), renderMarkdown(title, report))
  await writeFile(join(folder, 'report.html'), renderHtml(title, report))
  await writeFile(
    join(folder, 'tuning-guide.md'),
    renderMarkdown('Tuning guide', buildGuide(story, tunedPath)),
  )
  const judged = judgeStory(story, targets)
  for (const { scenario, overBaseline, overUntuned } of story.end.final.gains) {
    process.stdout.write(
      `${scenario.padEnd(12)} ${overBaseline.ratio.toFixed(2)} times the baseline, ${overUntuned.ratio.toFixed(2)} times the untuned service\n`,
    )
  }
  for (const { target, verdict } of judged) process.stdout.write(`${verdict.padEnd(12)} ${target.name}\n`)
  process.stdout.write(
    `\nreport       ${join(folder, 'report.html')}\nnext         akidb-embedding serve --tuned ${tunedPath}\n`,
  )
  return judged.some(({ verdict }) => verdict === 'FAIL') ? 1 : 0
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

function readClients(flags: CommandInput['flags']): number[] {
  return String(flags['clients'] ?? '1,4,16')
    .split(',')
    .map((text) => {
      const clients = Number(text)
      if (Number.isInteger(clients) && clients > 0) return clients
      throw new EmbedError('USAGE', { reason: `--clients has '${text}'; it takes whole numbers above 0` })
    })
}

function withExpected({ winner, expected }: FinalComparison): TunedFile['measured'] {
  return Object.fromEntries(
    Object.entries(winner.scenarios).map(([name, figures]) => [
      name,
      { ...figures, expected: expected[name]! },
    ]),
  )
}

/** Results as lines that stay, what runs now as one that changes. */
function createReporter(
  minutes: number,
  line: { update(text: string): void; stop(): void },
): (event: TuneEvent) => void {
  const startedMs = performance.now()
  return (event) => {
    const spent = (performance.now() - startedMs) / 60_000
    const left = `${spent.toFixed(1)} min, at most ${Math.max(0, minutes - spent).toFixed(1)} more`
    if (event.kind === 'baseline') line.update(`the baseline (${left})`)
    if (event.kind === 'final') line.update(`baseline, untuned and winner side by side (${left})`)
    if (event.kind === 'try') {
      line.update(`${event.trial}: ${event.stage}: ${formatSettings(event.change)} (${left})`)
    }
    const text = event.kind === 'entry' ? formatEntry(event.entry) : undefined
    if (text === undefined) return
    line.stop()
    process.stdout.write(`${text}\n`)
  }
}

function formatEntry(entry: JournalEntry): string | undefined {
  if (entry.kind === 'skip') return `skipped      stage ${entry.stage}: ${entry.reason}`
  if (entry.kind !== 'experiment') return undefined
  const { comparison, outcome, reason } = entry.result
  const start = `${outcome.padEnd(12)} ${formatSettings(entry.change)}:`
  if (comparison === undefined) return `${start} ${reason}`
  const { ratio, low, high, pairs } = comparison
  return `${start} ${ratio.toFixed(3)} (${low.toFixed(3)}-${high.toFixed(3)}, ${pairs} pairs) ${reason}`
}
