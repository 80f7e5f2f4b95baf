/** What each step of the plan was expected to give, beside what it gave here. */
import type { Block } from './blocks.ts'
import type { ExperimentEntry } from './journal.ts'
import { type TuningStory, formatSettings } from './story.ts'

interface PlanStep {
  readonly name: string
  readonly stages: readonly string[]
  /** Of the plan, for a 4B model on a Jetson Thor. */
  readonly expected: string
}

const steps: readonly PlanStep[] = [
  { name: 'another engine', stages: ['engine'], expected: 'no figure' },
  { name: 'lower precision', stages: ['precision'], expected: 'FP8: from 80 to 50-60 ms' },
  { name: 'builder level and profiles', stages: ['builder'], expected: 'to 25-30 ms' },
  {
    name: 'tactics and workspace',
    stages: ['tactics', 'workspace'],
    expected: 'to 20-25 ms, 5 to 10 % faster',
  },
  { name: 'memory and graphs', stages: ['memory'], expected: 'to 18-20 ms; copies from 5 to 1-2 to < 1 ms' },
  { name: 'threads', stages: ['threads'], expected: 'no figure' },
  { name: 'streams, overlap', stages: ['streams'], expected: 'about 10 % faster' },
  { name: 'batching', stages: ['batching'], expected: 'from 15 to > 50 texts/s' },
]

export function planTable(story: TuningStory): Block {
  return {
    kind: 'table',
    head: ['step', 'expected', 'texts/s here, after / before', 'p95 here, 1 client', 'by'],
    rows: steps.map((step) => [step.name, step.expected, ...describeStep(step, story)]),
  }
}

function describeStep({ stages }: PlanStep, { experiments, skips, begin, end }: TuningStory): string[] {
  const tried = experiments.filter(({ stage }) => stages.includes(stage))
  const kept = tried.filter(({ result }) => result.outcome === 'kept')
  if (kept.length > 0) {
    const ratio = kept.reduce((product, { result }) => product * result.comparison!.ratio, 1)
    return [
      `${ratio.toFixed(2)} times`,
      describeP95(kept[0]!, kept.at(-1)!),
      kept.map(({ change }) => formatSettings(change)).join('; '),
    ]
  }
  if (tried.length > 0) {
    const what = tried.map(({ change }) => formatSettings(change)).join('; ')
    const finding = tried.every(({ result }) => result.outcome === 'failed')
      ? 'not measured: what was tried failed'
      : 'gave nothing'
    return [finding, finding, `tried: ${what}`]
  }
  const reasons = stages.map((stage) => {
    const reason = skips.find((skip) => skip.stage === stage)?.reason
    if (reason !== undefined) return reason
    if (!begin.stages.includes(stage)) return 'the stage was not asked for'
    return end.stoppedBy === undefined ? 'nothing was left to try' : `stopped by ${end.stoppedBy}`
  })
  const why = `not measured: ${[...new Set(reasons)].join('; ')}`
  return [why, why, '']
}

function describeP95(first: ExperimentEntry, last: ExperimentEntry): string {
  const before = first.result.incumbent?.scenarios['1 client']
  const after = last.result.candidate?.scenarios['1 client']
  if (before === undefined || after === undefined) return 'not measured: no closed loop of 1 client was run'
  return `${before.p95Ms.toFixed(2)} -> ${after.p95Ms.toFixed(2)} ms`
}
