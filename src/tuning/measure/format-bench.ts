/** Tables for people. */
import type { BenchRecord, BenchRow } from './bench-record.ts'
import type { Comparison } from './compare-records.ts'
import { median } from './percentile.ts'

const columns: readonly [title: string, read: (row: BenchRow) => string][] = [
  ['target', ({ target }) => target],
  ['p50 ms', (row) => middle(row, 'p50Ms', 2)],
  ['p95 ms', (row) => middle(row, 'p95Ms', 2)],
  ['p99 ms', (row) => middle(row, 'p99Ms', 2)],
  ['max ms', ({ rounds }) => Math.max(...rounds.map((round) => round.maxMs)).toFixed(1)],
  ['req/s', (row) => middle(row, 'requestsPerSecond', 1)],
  ['texts/s', (row) => range(row)],
  ['tokens/s', (row) => middle(row, 'tokensPerSecond', 0)],
  ['batch', (row) => middle(row, 'averageBatchSize', 1)],
  ['padding', (row) => middle(row, 'paddingRatio', 1, 100, ' %')],
  ['CPU cores', (row) => middle(row, 'cpuCores', 2)],
  ['RSS MiB', (row) => middle(row, 'rssBytes', 0, 1 / 2 ** 20)],
  ['errors', ({ rounds }) => String(rounds.reduce((sum, round) => sum + round.errors, 0))],
]

/** A table a scenario: medians over the rounds, texts/s with the least and the most, the maximum over all. */
export function formatBench(record: BenchRecord): string {
  const { machine, settings, samples, noise, rows } = record
  const loads = samples.map((sample) => sample.loadAverage.toFixed(2))
  const scenarios = [...new Set(rows.map((row) => row.scenario))]
  const tables = scenarios.map((scenario) => {
    const own = rows.filter((row) => row.scenario === scenario)
    return `\n${scenario}\n${formatTable(
      columns.map(([title]) => title),
      own.map((row) => columns.map(([, read]) => read(row))),
    )}`
  })
  return [
    `${record.model} on ${machine.cpu}, ${machine.usableCores} cores, Node ${machine.node}, ${record.date}`,
    `${settings.rounds} rounds of ${settings.roundMs / 1000} s; load average ${loads.join(' ')}`,
    ...tables,
    '',
    ...noise.map((reason) => `noisy: ${reason}`),
  ].join('\n')
}

export function formatComparisons(comparisons: readonly Comparison[]): string {
  const rows = comparisons.map((each) => [
    each.scenario,
    each.candidate === each.baseline ? each.candidate : `${each.candidate} / ${each.baseline}`,
    each.metric,
    each.ratio.toFixed(3),
    `${each.low.toFixed(3)} to ${each.high.toFixed(3)}`,
    each.verdict,
  ])
  return formatTable(['scenario', 'targets', 'metric', 'ratio', '95 % interval', 'verdict'], rows)
}

function middle(
  { rounds }: BenchRow,
  key: keyof BenchRow['rounds'][number],
  digits: number,
  scale = 1,
  unit = '',
): string {
  const values = rounds.flatMap((round) => (typeof round[key] === 'number' ? [round[key]] : []))
  return values.length === 0 ? '-' : `${(median(values) * scale).toFixed(digits)}${unit}`
}

function range(row: BenchRow): string {
  const rates = row.rounds.map((round) => round.textsPerSecond)
  return `${middle(row, 'textsPerSecond', 1)} (${Math.min(...rates).toFixed(1)}-${Math.max(...rates).toFixed(1)})`
}

function formatTable(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)))
  const line = (cells: readonly string[]): string =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ')
  return [titles, ...rows].map((cells) => `  ${line(cells)}`).join('\n')
}
