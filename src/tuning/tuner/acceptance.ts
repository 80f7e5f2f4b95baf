/** One configuration judged end to end: what `e2e` writes down. */
import type { BenchRecord } from '../measure/bench-record.ts'
import { median } from '../measure/percentile.ts'
import type { Block } from './blocks.ts'
import type { SideInfo, SideQuality, Slice } from './side.ts'
import {
  type JudgedTarget,
  type Target,
  formatMetric,
  formatWanted,
  gpuBytesOf,
  judgeTargets,
} from './targets.ts'

export interface Acceptance {
  readonly date: string
  readonly packageVersion: string
  readonly model: string
  /** What differs from the defaults. */
  readonly settings: Readonly<Record<string, unknown>>
  readonly info: SideInfo
  readonly passed: boolean
  readonly targets: readonly JudgedTarget[]
  readonly quality: SideQuality
  readonly hasSyntheticWeights: boolean
  readonly bench: BenchRecord
}

/** Passed: no target missed, and the vectors are those of the model. */
export function judgeAcceptance(
  parts: Omit<Acceptance, 'passed' | 'targets'>,
  targets: readonly Target[],
): Acceptance {
  const { worstCosine } = parts.quality
  const measured = { slice: toSliceOf(parts.bench), worstCosine, gpuBytes: gpuBytesOf(parts.info) }
  const judged = judgeTargets(targets, measured, measured)
  const passed = parts.quality.passed && judged.every(({ verdict }) => verdict !== 'FAIL')
  return { ...parts, passed, targets: judged }
}

/** By scenario, the median over the rounds. */
function toSliceOf({ rows }: BenchRecord): Slice {
  const figures = rows.map(({ scenario, rounds }) => {
    const of = (key: 'textsPerSecond' | 'p50Ms' | 'p95Ms' | 'p99Ms'): number =>
      median(rounds.map((round) => round[key]))
    return [
      scenario,
      {
        textsPerSecond: of('textsPerSecond'),
        p50Ms: of('p50Ms'),
        p95Ms: of('p95Ms'),
        p99Ms: of('p99Ms'),
      },
    ] as const
  })
  const rssBytes = Math.max(...rows.flatMap(({ rounds }) => rounds.map((round) => round.rssBytes ?? 0)))
  return { scenarios: Object.fromEntries(figures), rssBytes }
}

export function buildAcceptanceReport(acceptance: Acceptance): Block[] {
  const { model, info, bench, quality, targets, passed, hasSyntheticWeights } = acceptance
  const { scenarios, rssBytes } = toSliceOf(bench)
  const gpuBytes = gpuBytesOf(info)
  const note = hasSyntheticWeights ? ' (synthetic weights: numerics, not retrieval quality)' : ''
  return [
    { kind: 'heading', text: passed ? 'PASS' : 'FAIL' },
    {
      kind: 'text',
      text: `${model}, ${info.engine} ${info.precision} on ${info.device}, ${acceptance.date}, akidb-embedding ${acceptance.packageVersion}.`,
    },
    ...bench.noise.map((reason): Block => ({ kind: 'text', text: `To be taken with care: ${reason}.` })),
    { kind: 'heading', text: 'Targets' },
    {
      kind: 'table',
      head: ['target', 'wanted', 'measured', 'verdict'],
      rows: targets.map(({ target, measured, verdict }) => [
        target.name,
        formatWanted(target),
        measured === undefined
          ? `not measured: ${target.metric === 'gpuBytes' ? 'it runs on the CPU' : `no closed loop of ${target.clients} clients was run (--clients)`}`
          : formatMetric(target.metric, measured),
        target.metric === 'worstCosine' ? `${verdict}${note}` : verdict,
      ]),
    },
    { kind: 'heading', text: 'Latency and throughput' },
    {
      kind: 'table',
      head: ['load', 'texts/s', 'p50 ms', 'p95 ms', 'p99 ms'],
      rows: Object.entries(scenarios).map(([name, { textsPerSecond, p50Ms, p95Ms, p99Ms }]) => [
        name,
        textsPerSecond.toFixed(1),
        p50Ms.toFixed(2),
        p95Ms.toFixed(2),
        p99Ms.toFixed(2),
      ]),
    },
    { kind: 'heading', text: 'Memory' },
    {
      kind: 'text',
      text: `Process ${(rssBytes / 1e9).toFixed(2)} GB; GPU ${gpuBytes === undefined ? 'not measured: it runs on the CPU' : `${(gpuBytes / 1e9).toFixed(2)} GB held by the engine`}.`,
    },
    { kind: 'heading', text: 'Quality' },
    {
      kind: 'table',
      head: ['check', 'value', 'limit', 'verdict'],
      rows: quality.checks.map(({ name, value, limit, isAtLeast, passed: isFine }) => [
        name,
        value.toPrecision(6),
        `${isAtLeast ? '>=' : '<='} ${limit}`,
        `${isFine ? 'PASS' : 'FAIL'}${isFine ? note : ''}`,
      ]),
    },
  ]
}
