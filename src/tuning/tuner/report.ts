/** What happened, as blocks: one text for Markdown and HTML. A value that was not measured says so. */
import type { ExperimentEntry, Interval, JournalEntry } from './journal.ts'
import type { PreflightItem } from './preflight.ts'
import type { Settings, Slice } from './side.ts'
import { type JudgedTarget, type Target, judgeTargets } from './targets.ts'

export type Block =
  | { readonly kind: 'heading'; readonly text: string }
  | { readonly kind: 'text'; readonly text: string }
  | {
      readonly kind: 'table'
      readonly head: readonly string[]
      readonly rows: readonly (readonly string[])[]
    }
  | {
      readonly kind: 'bars'
      readonly title: string
      readonly bars: readonly { readonly label: string; readonly value: number; readonly text: string }[]
    }

export interface TuningStory {
  readonly begin: Extract<JournalEntry, { kind: 'begin' }>
  readonly baseline: Extract<JournalEntry, { kind: 'baseline' }>
  readonly experiments: readonly ExperimentEntry[]
  readonly skips: readonly Extract<JournalEntry, { kind: 'skip' }>[]
  readonly end: Extract<JournalEntry, { kind: 'end' }>
}

/** @returns undefined while the run has not ended */
export function toStory(entries: readonly JournalEntry[]): TuningStory | undefined {
  const begin = entries.find((entry) => entry.kind === 'begin')
  const baseline = entries.find((entry) => entry.kind === 'baseline')
  const end = entries.findLast((entry) => entry.kind === 'end')
  if (begin === undefined || baseline === undefined || end === undefined) return undefined
  return {
    begin,
    baseline,
    end,
    experiments: entries.filter((entry) => entry.kind === 'experiment'),
    skips: entries.filter((entry) => entry.kind === 'skip'),
  }
}

/** The experiments that gave the incumbent, from the baseline on. */
export function winningSteps({ experiments, end }: TuningStory): ExperimentEntry[] {
  const steps: ExperimentEntry[] = []
  for (let id = end.incumbentId; id !== 'baseline';) {
    const step = experiments.find((entry) => entry.id === id)!
    steps.unshift(step)
    id = step.incumbentId
  }
  return steps
}

/** Worst cosine of the winner: that of the last step, or of the baseline. */
export function winnerCosine(story: TuningStory): number | undefined {
  return winningSteps(story).at(-1)?.result.quality?.worstCosine ?? story.baseline.quality.worstCosine
}

export function judgeStory(story: TuningStory, targets: readonly Target[]): JudgedTarget[] {
  const { final } = story.end
  return judgeTargets(
    targets,
    { slice: final.baseline, worstCosine: story.baseline.quality.worstCosine },
    { slice: final.winner, worstCosine: winnerCosine(story) },
  )
}

export function buildReport(
  story: TuningStory,
  targets: readonly Target[],
  checklist: readonly PreflightItem[],
): Block[] {
  const { begin, baseline, experiments, skips, end } = story
  const { key } = begin
  const steps = winningSteps(story)
  const settings = steps.at(-1)?.settings ?? baseline.settings
  const scenarios = Object.keys(end.final.winner.scenarios)
  return [
    { kind: 'heading', text: 'Result' },
    {
      kind: 'text',
      text: `${key.model} on ${key.cpu}, ${key.usableCores} cores, akidb-embedding ${key.packageVersion}, ${end.date}. Winner: ${end.incumbentId}, ${formatSettings(settings)}.${end.stoppedBy === undefined ? '' : ` The run stopped at ${end.stoppedBy}.`}`,
    },
    { kind: 'heading', text: 'Targets' },
    {
      kind: 'table',
      head: ['target', 'wanted', 'baseline', 'measured', 'verdict'],
      rows: judgeStory(story, targets).map(({ target, baseline: before, measured, verdict }) => [
        target.name,
        formatWanted(target),
        formatMetric(target, before),
        formatMetric(target, measured),
        verdict,
      ]),
    },
    { kind: 'heading', text: 'Before and after' },
    {
      kind: 'text',
      text: `Baseline, untuned default and winner, measured in turn in ${end.final.rounds} rounds; medians. Gains with their 95 % interval (signed-rank, pairs of rounds).`,
    },
    {
      kind: 'table',
      head: [
        'closed loop',
        'measure',
        'baseline',
        'untuned',
        'winner',
        'winner / baseline',
        'winner / untuned',
      ],
      rows: scenarios.flatMap((scenario) => {
        const gain = end.final.gains.find((each) => each.scenario === scenario)!
        return comparisonRows(scenario, end.final, gain)
      }),
    },
    ...(['textsPerSecond', 'p95Ms'] as const).map(
      (metric): Block => ({
        kind: 'bars',
        title: metric === 'p95Ms' ? 'p95 in ms, less is better' : 'texts/s, more is better',
        bars: scenarios.flatMap((scenario) =>
          (['baseline', 'untuned', 'winner'] as const).map((name) => {
            const value = end.final[name].scenarios[scenario]![metric]
            return { label: `${scenario}, ${name}`, value, text: value.toFixed(1) }
          }),
        ),
      }),
    ),
    {
      kind: 'bars',
      title: 'Texts/s after each change that was kept, as a multiple of the baseline',
      bars: waterfall(steps),
    },
    { kind: 'heading', text: 'Experiments' },
    {
      kind: 'table',
      head: [
        'id',
        'stage',
        'change',
        'against',
        'texts/s ratio',
        'interval',
        'pairs',
        'worst cosine',
        'outcome',
      ],
      rows: experiments.map((entry) => experimentRow(entry)),
    },
    ...skips.map(
      ({ stage, reason }): Block => ({ kind: 'text', text: `Stage ${stage}: not tried, ${reason}.` }),
    ),
    { kind: 'heading', text: 'Conditions' },
    {
      kind: 'table',
      head: ['check', 'found', 'note'],
      rows: checklist.map(({ name, text, fix }) => [name, text, fix ?? 'fine']),
    },
  ]
}

function comparisonRows(
  scenario: string,
  final: { baseline: Slice; untuned: Slice; winner: Slice },
  gain: { overBaseline: Interval; overUntuned: Interval },
): string[][] {
  const of = (name: 'baseline' | 'untuned' | 'winner') => final[name].scenarios[scenario]!
  return [
    [
      scenario,
      'texts/s',
      of('baseline').textsPerSecond.toFixed(1),
      of('untuned').textsPerSecond.toFixed(1),
      of('winner').textsPerSecond.toFixed(1),
      formatInterval(gain.overBaseline),
      formatInterval(gain.overUntuned),
    ],
    ...(['p50Ms', 'p95Ms', 'p99Ms'] as const).map((metric) => [
      scenario,
      `${metric.slice(0, 3)} ms`,
      of('baseline')[metric].toFixed(2),
      of('untuned')[metric].toFixed(2),
      of('winner')[metric].toFixed(2),
      (of('winner')[metric] / of('baseline')[metric]).toFixed(2),
      (of('winner')[metric] / of('untuned')[metric]).toFixed(2),
    ]),
  ]
}

function waterfall(steps: readonly ExperimentEntry[]): { label: string; value: number; text: string }[] {
  let multiple = 1
  return [
    { label: 'baseline', value: 1, text: '1.00' },
    ...steps.map(({ change, result }) => {
      multiple *= result.comparison!.ratio
      return { label: formatSettings(change), value: multiple, text: multiple.toFixed(2) }
    }),
  ]
}

function experimentRow({ id, stage, change, incumbentId, result }: ExperimentEntry): string[] {
  const { comparison, quality } = result
  return [
    id,
    stage,
    formatSettings(change),
    incumbentId,
    comparison === undefined ? `not measured: ${result.reason}` : comparison.ratio.toFixed(3),
    comparison === undefined ? '' : `${comparison.low.toFixed(3)} to ${comparison.high.toFixed(3)}`,
    comparison === undefined ? '' : String(comparison.pairs),
    quality === undefined ? 'not measured: it was not faster' : quality.worstCosine.toFixed(6),
    result.reason === 'faster' ? 'kept' : `${result.outcome}: ${result.reason}`,
  ]
}

export function formatSettings(settings: Settings): string {
  return Object.entries(settings)
    .map(([key, value]) => `${key} ${String(value)}`)
    .join(', ')
}

function formatInterval({ ratio, low, high }: Interval): string {
  return `${ratio.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)})`
}

function formatWanted(target: Target): string {
  const bounds = [
    target.atLeast === undefined ? [] : [`>= ${formatMetric(target, target.atLeast)}`],
    target.atMost === undefined ? [] : [`<= ${formatMetric(target, target.atMost)}`],
  ]
  return bounds.flat().join(', ')
}

function formatMetric({ metric, clients }: Target, value: number | undefined): string {
  if (value === undefined) return `not measured: no closed loop of ${clients} clients was run`
  if (metric === 'rssBytes') return `${(value / 1e9).toFixed(2)} GB`
  if (metric === 'worstCosine') return value.toFixed(6)
  return metric === 'textsPerSecond' ? value.toFixed(1) : `${value.toFixed(2)} ms`
}
