/** What a run of tune shows while it goes on: results as lines that stay, what runs now as one that changes. */
import type { JournalEntry } from '../tuning/tuner/journal.ts'
import { formatSettings } from '../tuning/tuner/story.ts'
import type { TuneEvent } from '../tuning/tuner/tune.ts'
import type { ProgressLine } from './progress-bar.ts'

export function createTuneReporter(minutes: number, line: ProgressLine): (event: TuneEvent) => void {
  const startedMs = performance.now()
  return (event) => {
    const spent = (performance.now() - startedMs) / 60_000
    const left = Math.max(0, minutes - spent).toFixed(1)
    const time = `${spent.toFixed(1)} min, about ${left} more at most`
    if (event.kind === 'entry') {
      const text = formatEntry(event.entry)
      if (text === undefined) return
      line.stop()
      process.stdout.write(`${text}\n`)
    } else line.update(`${formatNow(event)} (${time})`)
  }
}

function formatNow(event: Exclude<TuneEvent, { kind: 'entry' }>): string {
  if (event.kind === 'baseline') return 'the baseline: starting, checking its vectors, measuring'
  if (event.kind === 'profile') return `where the time of the ${event.side} goes`
  if (event.kind === 'isolate') return `alone on the baseline: ${formatSettings(event.change)}`
  if (event.kind === 'try') return `${event.trial}: ${event.stage}: ${formatSettings(event.change)}`
  return `baseline, untuned and winner side by side: round ${event.round} of ${event.ofRounds}`
}

function formatEntry(entry: JournalEntry): string | undefined {
  if (entry.kind === 'skip') return `skipped      stage ${entry.stage}: ${entry.reason}`
  if (entry.kind === 'baseline') {
    const rates = Object.entries(entry.slice.scenarios).map(
      ([name, { textsPerSecond }]) => `${name} ${textsPerSecond.toFixed(1)}`,
    )
    return `baseline     ${formatSettings(entry.settings)}: texts/s with ${rates.join(', ')}`
  }
  if (entry.kind === 'end' && entry.final.instead !== undefined) {
    return 'note         the untuned default was faster than what was found, and is taken: the run had too little time or quiet'
  }
  if (entry.kind !== 'experiment') return undefined
  const { comparison, outcome, reason } = entry.result
  const start = `${outcome.padEnd(12)} ${entry.id}: ${formatSettings(entry.change)}:`
  if (comparison === undefined) return `${start} ${reason}`
  const { ratio, low, high, pairs } = comparison
  return `${start} ${ratio.toFixed(3)} (${low.toFixed(3)}-${high.toFixed(3)}, ${pairs} pairs) ${reason}`
}
