/** The tuning guide of this machine: what to set, what each knob did here, and what went wrong. */
import type { ExperimentEntry } from './journal.ts'
import type { Block } from './blocks.ts'
import { type TuningStory, formatSettings, winningSteps } from './story.ts'

export function buildGuide(story: TuningStory, tunedPath: string): Block[] {
  const { experiments, begin, end } = story
  const steps = winningSteps(story)
  const failures = experiments.filter(({ result }) => result.outcome === 'failed')
  return [
    { kind: 'heading', text: 'Use it' },
    { kind: 'text', text: `\`akidb-embedding serve --tuned ${tunedPath}\` starts with these settings:` },
    end.final.instead === undefined
      ? {
          kind: 'table',
          head: ['key', 'value', 'why'],
          rows: Object.entries(end.settings).map(([key, value]) => [key, String(value), explain(key, steps)]),
        }
      : {
          kind: 'text',
          text: 'The defaults: nothing that the search found was as fast. Give it more time (`--minutes`) on a quieter machine.',
        },
    { kind: 'heading', text: 'What each knob did here' },
    {
      kind: 'table',
      head: ['change', 'texts/s', 'what became of it'],
      rows: experiments.map(({ change, result }) => [
        formatSettings(change),
        result.comparison === undefined ? 'not measured' : toPercent(result.comparison.ratio),
        result.outcome === 'kept' ? `kept: ${result.reason}` : result.reason,
      ]),
    },
    { kind: 'heading', text: 'What went wrong' },
    failures.length === 0
      ? { kind: 'text', text: 'Nothing failed in this run.' }
      : {
          kind: 'table',
          head: ['with', 'it said'],
          rows: failures.map(({ settings: tried, result }) => [formatSettings(tried), result.reason]),
        },
    { kind: 'heading', text: 'When to tune again' },
    {
      kind: 'text',
      text: `After a change of the model, the machine or this package (${begin.key.packageVersion}): serve refuses the file then and says why. \`akidb-embedding verify ${tunedPath}\` tells whether the figures still hold.`,
    },
  ]
}

function explain(key: string, steps: readonly ExperimentEntry[]): string {
  const step = steps.findLast(({ change }) => key in change)
  if (step === undefined) return 'as in the baseline'
  const { ratio, low, high } = step.result.comparison!
  return `${toPercent(ratio)} texts/s (${toPercent(low)} to ${toPercent(high)}) against ${step.incumbentId}`
}

function toPercent(ratio: number): string {
  const percent = (ratio - 1) * 100
  return `${percent < 0 ? '-' : '+'}${Math.abs(percent).toFixed(1)} %`
}
