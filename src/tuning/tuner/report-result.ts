/** What was found, in a few sentences. */
import type { Block } from './blocks.ts'
import { type TuningStory, formatSettings, judgeStory } from './story.ts'
import type { JudgedTarget, Target } from './targets.ts'

export function resultBlocks(story: TuningStory, targets: readonly Target[]): Block[] {
  const { begin, end, baseline } = story
  const { key } = begin
  const { final } = end
  const machine = key.gpu ?? `${key.cpu}, ${key.usableCores} cores`
  const date = `${end.date.slice(0, 16).replace('T', ' ')} UTC`
  const stopped = end.stoppedBy === undefined ? '' : ` The search stopped at ${end.stoppedBy}.`
  const runsAs = `${final.info.engine} ${final.info.precision}`
  const gains = final.gains.map(
    ({ scenario, overBaseline }) => `${overBaseline.ratio.toFixed(2)} with ${scenario}`,
  )
  return [
    {
      kind: 'text',
      text: `${key.model} on ${machine}, akidb-embedding ${key.packageVersion}, ${date}. Winner: ${end.incumbentId}, ${formatSettings(end.settings)} (${runsAs}).${stopped}`,
    },
    {
      kind: 'text',
      text: `Texts/s, winner / baseline: ${gains.join(', ')}. ${countTargets(story, targets)}`,
    },
    {
      kind: 'text',
      text: `Baseline: the plain service, ${formatSettings(baseline.settings)}. Untuned: what serve takes by itself. Incumbent: the best so far.`,
    },
    ...describeInstead(story),
  ]
}

function countTargets(story: TuningStory, targets: readonly Target[]): string {
  const judged = judgeStory(story, targets)
  const list = (verdict: JudgedTarget['verdict'], word: string): string => {
    const names = judged.filter((each) => each.verdict === verdict).map(({ target }) => `'${target.name}'`)
    return names.length === 0 ? '' : `; ${word}: ${names.join(', ')}`
  }
  const reached = judged.filter(({ verdict }) => verdict === 'PASS').length
  return `Targets reached: ${reached} of ${judged.length}${list('FAIL', 'missed')}${list('not measured', 'not measured')}.`
}

function describeInstead({ end }: TuningStory): Block[] {
  if (end.final.instead === undefined) return []
  const { ratio, low, high, scenario } = end.final.instead.lossToUntuned
  const where = scenario === undefined ? '' : ` with ${scenario}`
  const text = `What the search had found gave ${ratio.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)}) times the texts/s of the untuned default${where}, so the default was taken: the search had too little time, or the machine was too noisy. The steps below are those of the search.`
  return [{ kind: 'text', text }]
}
