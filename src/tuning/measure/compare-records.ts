/** Two records, or the targets of one, side by side. */
import type { BenchRecord } from './bench-record.ts'
import { type RatioInterval, ratioInterval } from './ratio-interval.ts'

export const comparedMetrics = ['textsPerSecond', 'p50Ms', 'p95Ms', 'p99Ms'] as const
export type ComparedMetric = (typeof comparedMetrics)[number]

export interface Comparison extends RatioInterval {
  readonly scenario: string
  readonly candidate: string
  readonly baseline: string
  readonly metric: ComparedMetric
  readonly verdict: 'better' | 'worse' | 'no difference shown'
}

/** Every row of `candidate` beside that of the same target and scenario in `baseline`. Where a record has one target
 * only, its name need not be the same. */
export function compareRecords(candidate: BenchRecord, baseline: BenchRecord): Comparison[] {
  const isSingle = [candidate, baseline].every(
    ({ rows }) => new Set(rows.map((row) => row.target)).size === 1,
  )
  return candidate.rows.flatMap((row) => {
    const other = baseline.rows.find(
      ({ target, scenario }) => scenario === row.scenario && (isSingle || target === row.target),
    )
    return other === undefined ? [] : compare(row, other, false)
  })
}

/** Every target beside the first one. The rounds were interleaved. */
export function compareTargets(record: BenchRecord): Comparison[] {
  const [first] = record.rows
  return record.rows.flatMap((row) => {
    if (row.target === first!.target) return []
    const baseline = record.rows.find(
      ({ target, scenario }) => target === first!.target && scenario === row.scenario,
    )!
    return compare(row, baseline, true)
  })
}

type Row = BenchRecord['rows'][number]

function compare(candidate: Row, baseline: Row, isPaired: boolean): Comparison[] {
  return comparedMetrics.map((metric) => {
    const interval = ratioInterval(
      candidate.rounds.map((round) => round[metric]),
      baseline.rounds.map((round) => round[metric]),
      { isPaired },
    )
    const isMore = interval.low > 1
    const better = metric === 'textsPerSecond' ? isMore : !isMore
    return {
      ...interval,
      scenario: candidate.scenario,
      candidate: candidate.target,
      baseline: baseline.target,
      metric,
      verdict: !interval.isSignificant ? 'no difference shown' : better ? 'better' : 'worse',
    }
  })
}
