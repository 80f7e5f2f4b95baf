/** What happened, as blocks: one text for Markdown and HTML. A value that was not measured says so. */
import type { Block } from './blocks.ts'
import type { IsolatedChange } from './isolate.ts'
import type { ExperimentEntry } from './journal.ts'
import { comparisonBlocks } from './report-comparison.ts'
import { planTable } from './report-plan.ts'
import { plotBlocks } from './report-plots.ts'
import { resultBlocks } from './report-result.ts'
import { targetBlocks } from './report-targets.ts'
import { type TuningStory, formatSettings } from './story.ts'
import type { Target } from './targets.ts'

export function buildReport(story: TuningStory, targets: readonly Target[]): Block[] {
  const { begin, experiments, skips, end, isolated } = story
  const { facts } = begin
  return [
    { kind: 'heading', text: 'Result' },
    ...resultBlocks(story, targets),
    { kind: 'heading', text: 'Targets' },
    ...targetBlocks(story, targets),
    { kind: 'heading', text: 'Before and after' },
    ...comparisonBlocks(end.final),
    ...plotBlocks(story),
    { kind: 'heading', text: 'Step by step, beside what was expected' },
    {
      kind: 'text',
      text: "Expected: what the plan that the stages follow hoped for, p95 of a 4B model on a Jetson Thor. Here: this model on this machine, from the step's own experiments.",
    },
    planTable(story),
    ...isolationBlocks(isolated),
    { kind: 'heading', text: 'Experiments' },
    ...experimentBlocks(experiments),
    ...skippedBlocks(skips),
    { kind: 'heading', text: 'Conditions' },
    {
      kind: 'table',
      head: ['check', 'found', 'note'],
      rows: facts.checklist.map(({ name, text, fix }) => [name, text, fix ?? 'fine']),
    },
  ]
}

function experimentBlocks(experiments: readonly ExperimentEntry[]): Block[] {
  if (experiments.length === 0) return [{ kind: 'text', text: 'None was made.' }]
  return [
    {
      kind: 'text',
      text: 'One change at a time, beside the incumbent of the moment, in pairs of rounds. Kept: the whole interval is above 1, no number of clients is slower, and the vectors are as exact.',
    },
    {
      kind: 'table',
      head: [
        'id',
        'stage',
        'change',
        'incumbent',
        'texts/s, candidate / incumbent',
        'interval',
        'pairs',
        'worst cosine',
        'outcome',
      ],
      rows: experiments.map((entry) => experimentRow(entry)),
    },
  ]
}

/** One line a reason. */
function skippedBlocks(skips: TuningStory['skips']): Block[] {
  const reasons = [...new Set(skips.map(({ reason }) => reason))]
  return reasons.map((reason): Block => {
    const names = skips.filter((skip) => skip.reason === reason).map(({ stage }) => stage)
    return { kind: 'text', text: `Not tried, ${reason}: ${names.join(', ')}.` }
  })
}

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
    quality === undefined
      ? `not measured: it ${result.outcome === 'failed' ? 'failed' : 'was not faster'}`
      : quality.worstCosine.toFixed(6),
    `${result.outcome}: ${result.reason}`,
  ]
}
