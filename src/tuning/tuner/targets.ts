/** What the tuned service should reach, and whether it does. */
import { readFile } from 'node:fs/promises'
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { EmbedError, toReason } from '../../errors.ts'
import type { FinalComparison } from './journal.ts'
import type { SideInfo, Slice } from './side.ts'

const targetSchema = Type.Object(
  {
    name: Type.String({ minLength: 1 }),
    metric: Type.Union([
      Type.Literal('p50Ms'),
      Type.Literal('p95Ms'),
      Type.Literal('p99Ms'),
      Type.Literal('textsPerSecond'),
      Type.Literal('rssBytes'),
      Type.Literal('gpuBytes'),
      Type.Literal('worstCosine'),
    ]),
    /** Of the closed loop, for latencies and rates. */
    clients: Type.Optional(Type.Integer({ minimum: 1 })),
    atLeast: Type.Optional(Type.Number()),
    atMost: Type.Optional(Type.Number()),
  },
  { additionalProperties: false },
)
export type Target = Readonly<Static<typeof targetSchema>>
const validator = Compile(Type.Array(targetSchema, { minItems: 1 }))

export const defaultTargets: readonly Target[] = [
  { name: 'p95, 1 client', metric: 'p95Ms', clients: 1, atMost: 30 },
  { name: 'texts/s, 1 client', metric: 'textsPerSecond', clients: 1, atLeast: 50 },
  { name: 'texts/s, 4 clients', metric: 'textsPerSecond', clients: 4, atLeast: 150 },
  { name: 'GPU memory', metric: 'gpuBytes', atMost: 4e9 },
  { name: 'worst cosine', metric: 'worstCosine', atLeast: 0.99 },
  { name: 'p99, 1 client (ours)', metric: 'p99Ms', clients: 1, atMost: 40 },
  { name: 'p95, 8 clients (ours)', metric: 'p95Ms', clients: 8, atMost: 50 },
  { name: 'memory of the process (ours)', metric: 'rssBytes', atMost: 4e9 },
]

const metricsWithoutClients: ReadonlySet<Target['metric']> = new Set(['rssBytes', 'gpuBytes', 'worstCosine'])

/** A JSON list of targets. @throws {EmbedError} FILE_UNREADABLE, TARGETS_INVALID */
export async function readTargets(path: string): Promise<readonly Target[]> {
  let value: unknown
  try {
    value = JSON.parse(await readFile(path, 'utf8'))
  } catch (cause) {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(cause) }, { cause })
  }
  if (!validator.Check(value)) {
    const [first] = validator.Errors(value)
    const reason = `${first?.instancePath ?? ''} ${first?.message ?? ''}`.trim()
    throw new EmbedError('TARGETS_INVALID', { path, reason })
  }
  checkTargets(path, value)
  return value
}

/** @throws {EmbedError} TARGETS_INVALID for one without a bound, and for two that no service can both reach */
export function checkTargets(path: string, targets: readonly Target[]): void {
  for (const [i, target] of targets.entries()) {
    const { name, metric, clients, atLeast, atMost } = target
    if (atLeast === undefined && atMost === undefined) {
      throw new EmbedError('TARGETS_INVALID', { path, reason: `'${name}' has neither atLeast nor atMost` })
    }
    if (clients === undefined && !metricsWithoutClients.has(metric)) {
      throw new EmbedError('TARGETS_INVALID', { path, reason: `'${name}' needs clients` })
    }
    for (const other of targets.slice(0, i + 1)) {
      if (other.metric !== metric || other.clients !== clients) continue
      const [low, high] = [
        Math.max(atLeast ?? -Infinity, other.atLeast ?? -Infinity),
        Math.min(atMost ?? Infinity, other.atMost ?? Infinity),
      ]
      if (low <= high) continue
      const reason = `'${name}' and '${other.name}' contradict: ${metric} at least ${low} and at most ${high}`
      throw new EmbedError('TARGETS_INVALID', { path, reason })
    }
  }
}

export interface JudgedTarget {
  readonly target: Target
  /** undefined: not measured. */
  readonly baseline: number | undefined
  readonly measured: number | undefined
  readonly verdict: 'PASS' | 'FAIL' | 'not measured'
}

export interface Measured {
  readonly slice: Slice
  readonly worstCosine: number | undefined
  /** undefined: it does not run on a GPU. */
  readonly gpuBytes: number | undefined
}

export function judgeTargets(
  targets: readonly Target[],
  baseline: Measured,
  winner: Measured,
): JudgedTarget[] {
  return targets.map((target) => {
    const measured = read(target, winner)
    const { atLeast = -Infinity, atMost = Infinity } = target
    const verdict =
      measured === undefined ? 'not measured' : measured >= atLeast && measured <= atMost ? 'PASS' : 'FAIL'
    return { target, baseline: read(target, baseline), measured, verdict }
  })
}

/** Judged by what the comparison at the end measured. */
export function hasMissedTarget(
  { winner, baseline, info }: FinalComparison,
  targets: readonly Target[],
): boolean {
  const toMeasured = (slice: Slice): Measured => ({
    slice,
    worstCosine: undefined,
    gpuBytes: gpuBytesOf(info),
  })
  return judgeTargets(targets, toMeasured(baseline), toMeasured(winner)).some(
    ({ verdict }) => verdict === 'FAIL',
  )
}

/** Undefined where the engine runs on the CPU. */
export function gpuBytesOf({ engine, memoryBytes }: SideInfo): number | undefined {
  return engine === 'tensorrt' || engine === 'cuda' ? memoryBytes : undefined
}

function read({ metric, clients }: Target, { slice, worstCosine, gpuBytes }: Measured): number | undefined {
  if (metric === 'gpuBytes') return gpuBytes
  if (metric === 'rssBytes') return slice.rssBytes
  if (metric === 'worstCosine') return worstCosine
  return slice.scenarios[`${clients} client${clients === 1 ? '' : 's'}`]?.[metric]
}

/** '>= 50.0' */
export function formatWanted({ metric, atLeast, atMost }: Target): string {
  const bounds = [
    atLeast === undefined ? [] : [`>= ${formatMetric(metric, atLeast)}`],
    atMost === undefined ? [] : [`<= ${formatMetric(metric, atMost)}`],
  ]
  return bounds.flat().join(', ')
}

/** With its unit. */
export function formatMetric(metric: Target['metric'], value: number): string {
  if (metric === 'rssBytes' || metric === 'gpuBytes') return `${(value / 1e9).toFixed(2)} GB`
  if (metric === 'worstCosine') return value.toFixed(6)
  return metric === 'textsPerSecond'
    ? `${value.toFixed(value < 1000 ? 1 : 0)} texts/s`
    : `${value.toFixed(2)} ms`
}
