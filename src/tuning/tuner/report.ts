/** What happened, as blocks: one text for Markdown and HTML. A value that was not measured says so. */
import type { Block } from './blocks.ts'
import type { IsolatedChange } from './isolate.ts'
import type { ExperimentEntry, FinalComparison, Interval } from './journal.ts'
import { planTable } from './report-plan.ts'
import { plotBlocks } from './report-plots.ts'
import { targetBlocks } from './report-targets.ts'
import type { Slice } from './side.ts'
import { type TuningStory, formatSettings } from './story.ts'
import type { Target } from './targets.ts'

export function buildReport(story: TuningStory, targets: readonly Target[]): Block[] {
  const { begin, experiments, skips, end, isolated } = story
  const { key, facts } = begin
  const scenarios = Object.keys(end.final.winner.scenarios)
  return [
    { kind: 'heading', text: 'Result' },
    {
      kind: 'text',
      text: `${key.model} on ${key.gpu ?? `${key.cpu}, ${key.usableCores} cores`}, akidb-embedding ${key.packageVersion}, ${end.date}. Winner: ${end.incumbentId}, ${formatSettings(end.settings)}.${end.stoppedBy === undefined ? '' : ` The search stopped at ${end.stoppedBy}.`}`,
    },
    ...describeInstead(story),
    { kind: 'heading', text: 'Targets' },
    ...targetBlocks(story, targets),
    { kind: 'heading', text: 'Before and after' },
    {
      kind: 'text',
      text: `Baseline, untuned default and winner, measured in turn in ${end.final.rounds} rounds: the median rate, and percentiles over all answers. Gains with their 95 % interval (signed-rank, pairs of rounds).`,
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
    ...plainLoopBlocks(end.final),
    ...plotBlocks(story),
    { kind: 'heading', text: "The plan's steps" },
    planTable(story),
    ...isolationBlocks(isolated),
    { kind: 'heading', text: 'Experiments' },
    experiments.length === 0
      ? { kind: 'text', text: 'None was made.' }
      : {
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
      rows: facts.checklist.map(({ name, text, fix }) => [name, text, fix ?? 'fine']),
    },
  ]
}

function describeInstead({ end }: TuningStory): Block[] {
  if (end.final.instead === undefined) return []
  const { ratio, low, high, scenario } = end.final.instead.lossToUntuned
  const where = scenario === undefined ? '' : ` with ${scenario}`
  const text = `What the search had found gave ${ratio.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)}) times the texts/s of the untuned default${where}, so the default was taken: the search had too little time, or the machine was too noisy.`
  return [{ kind: 'text', text }]
}

/** So that a gain over the baseline is none over a service that was made slow. */
function plainLoopBlocks({ plainLoop, baseline }: FinalComparison): Block[] {
  if (plainLoop === undefined) return []
  if ('missing' in plainLoop) {
    const text = `The baseline beside a plain loop over onnxruntime-node: not measured: ${plainLoop.missing}.`
    return [{ kind: 'text', text }]
  }
  const { scenario, textsPerSecond, baselineByPlain } = plainLoop
  const isFair = Math.abs(baselineByPlain.ratio - 1) <= fairDistance
  return [
    {
      kind: 'text',
      text: 'Is the baseline a fair one? Beside it, in the same rounds and over the same texts, what is written first: tokenise, onnxruntime-node, mean, normalise, one text after the other.',
    },
    {
      kind: 'table',
      head: [
        'closed loop',
        'measure',
        'plain loop',
        'baseline',
        'baseline / plain loop',
        'wanted',
        'verdict',
      ],
      rows: [
        [
          scenario,
          'texts/s',
          textsPerSecond.toFixed(1),
          baseline.scenarios[scenario]!.textsPerSecond.toFixed(1),
          formatInterval(baselineByPlain),
          'within 10 %',
          isFair ? 'PASS' : 'FAIL',
        ],
      ],
    },
  ]
}

const fairDistance = 0.1

function isolationBlocks(isolated: readonly IsolatedChange[]): Block[] {
  if (isolated.length === 0) return []
  return [
    { kind: 'heading', text: 'Each change alone on the baseline' },
    {
      kind: 'text',
      text: 'A target was missed, so each change that was kept was measured by itself against the baseline.',
    },
    {
      kind: 'table',
      head: ['change', 'texts/s ratio', 'interval', 'finding'],
      rows: isolated.map(({ change, outcome, reason, comparison }) => [
        formatSettings(change),
        comparison === undefined ? `not measured: ${reason}` : comparison.ratio.toFixed(3),
        comparison === undefined ? '' : `${comparison.low.toFixed(3)} to ${comparison.high.toFixed(3)}`,
        isolationFindings[outcome],
      ]),
    },
  ]
}

const isolationFindings: Readonly<Record<IsolatedChange['outcome'], string>> = {
  better: 'helps by itself',
  worse: 'hurts by itself: it pays only after the changes before it',
  equal: 'gives nothing by itself: it pays only after the changes before it, or the gain was small',
  failed: 'needs a change before it',
  'not measured': 'no finding',
}

function comparisonRows(
  scenario: string,
  { baseline, untuned, winner }: FinalComparison,
  gain: FinalComparison['gains'][number],
): string[][] {
  const of = (slice: Slice) => slice.scenarios[scenario]!
  const ofUntuned = 'missing' in untuned ? undefined : of(untuned)
  const why = 'missing' in untuned ? `not measured: ${untuned.missing}` : ''
  return [
    [
      scenario,
      'texts/s',
      of(baseline).textsPerSecond.toFixed(1),
      ofUntuned?.textsPerSecond.toFixed(1) ?? why,
      of(winner).textsPerSecond.toFixed(1),
      formatInterval(gain.overBaseline),
      gain.overUntuned === undefined ? 'not measured' : formatInterval(gain.overUntuned),
    ],
    ...(['p50Ms', 'p95Ms', 'p99Ms'] as const).map((metric) => [
      scenario,
      `${metric.slice(0, 3)} ms`,
      of(baseline)[metric].toFixed(2),
      ofUntuned?.[metric].toFixed(2) ?? 'not measured',
      of(winner)[metric].toFixed(2),
      (of(winner)[metric] / of(baseline)[metric]).toFixed(2),
      ofUntuned === undefined ? 'not measured' : (of(winner)[metric] / ofUntuned[metric]).toFixed(2),
    ]),
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

function formatInterval({ ratio, low, high }: Interval): string {
  return `${ratio.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)})`
}
