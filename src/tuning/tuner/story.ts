/** A finished run, read from its journal. */
import type { IsolatedChange } from './isolate.ts'
import type { ExperimentEntry, FinalComparison, JournalEntry } from './journal.ts'
import type { Settings, SideQuality } from './side.ts'
import type { TunedProfile } from './winner-profile.ts'
import { type JudgedTarget, type Target, gpuBytesOf, judgeTargets } from './targets.ts'

export interface TuningStory {
  readonly begin: Extract<JournalEntry, { kind: 'begin' }>
  readonly baseline: Extract<JournalEntry, { kind: 'baseline' }>
  readonly experiments: readonly ExperimentEntry[]
  readonly skips: readonly Extract<JournalEntry, { kind: 'skip' }>[]
  readonly end: Extract<JournalEntry, { kind: 'end' }>
  /** Each change alone, where a target was missed. */
  readonly isolated: readonly IsolatedChange[]
  /** Of the winner. */
  readonly profile: TunedProfile
  readonly baselineProfile: TunedProfile
}

/** @returns undefined while the run has not ended */
export function toStory(entries: readonly JournalEntry[]): TuningStory | undefined {
  const begin = entries.find((entry) => entry.kind === 'begin')
  const baseline = entries.find((entry) => entry.kind === 'baseline')
  const end = entries.findLast((entry) => entry.kind === 'end')
  if (begin === undefined || baseline === undefined || end === undefined) return undefined
  // Of this end, not of one before a resumption.
  const after = entries.slice(entries.indexOf(end))
  const profiles = after.find((entry) => entry.kind === 'profile')
  return {
    begin,
    baseline,
    end,
    experiments: entries.filter((entry) => entry.kind === 'experiment'),
    skips: entries.filter((entry) => entry.kind === 'skip'),
    isolated: after.find((entry) => entry.kind === 'isolation')?.results ?? [],
    profile: profiles?.profile ?? { missing: 'none was taken' },
    baselineProfile: profiles?.baseline ?? { missing: 'none was taken' },
  }
}

/** The experiments that gave the incumbent, from the baseline on; none where the untuned default was taken. */
export function winningSteps({ experiments, end }: TuningStory): ExperimentEntry[] {
  return end.incumbentId === 'untuned' ? [] : stepsTo(end.incumbentId, experiments)
}

/** Those that the search had kept at its end, whatever was taken then. */
export function keptSteps(story: TuningStory): ExperimentEntry[] {
  const { experiments, end } = story
  if (end.incumbentId !== 'untuned') return winningSteps(story)
  const last = experiments.findLast(({ result }) => result.outcome === 'kept')
  return stepsTo(last?.id ?? 'baseline', experiments)
}

function stepsTo(last: string, experiments: readonly ExperimentEntry[]): ExperimentEntry[] {
  const steps: ExperimentEntry[] = []
  for (let id = last; id !== 'baseline';) {
    const step = experiments.find((entry) => entry.id === id)!
    steps.unshift(step)
    id = step.incumbentId
  }
  return steps
}

/** Of the winner: that of the last step, of the untuned default where that was taken, or of the baseline. */
export function winnerQuality(story: TuningStory): SideQuality {
  const { end, baseline } = story
  return end.final.instead?.quality ?? winningSteps(story).at(-1)?.result.quality ?? baseline.quality
}

/** Whether the winner is what serve takes by itself: found to be the best, or taken in place of what was found. */
export function isDefaultTaken({ instead, isUntuned }: FinalComparison): boolean {
  return instead !== undefined || isUntuned === true
}

export function judgeStory(story: TuningStory, targets: readonly Target[]): JudgedTarget[] {
  const { final } = story.end
  return judgeTargets(
    targets,
    {
      slice: final.baseline,
      worstCosine: story.baseline.quality.worstCosine,
      gpuBytes: gpuBytesOf(story.baseline.info),
    },
    { slice: final.winner, worstCosine: winnerQuality(story).worstCosine, gpuBytes: gpuBytesOf(final.info) },
  )
}

export function formatSettings(settings: Settings): string {
  if (Object.keys(settings).length === 0) return 'the defaults'
  return Object.entries(settings)
    .map(([key, value]) => `${key} ${String(value)}`)
    .join(', ')
}
