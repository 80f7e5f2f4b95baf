/** One configuration that runs: what the tuner measures and judges, however it is made. */
import type { Config } from '../../config/schema.ts'
import { percentile } from '../measure/percentile.ts'
import type { QualityCheck } from '../quality/judge-quality.ts'

/** What differs from the defaults. */
export type Settings = Readonly<Partial<Config>>

export interface ScenarioFigures {
  readonly textsPerSecond: number
  readonly p50Ms: number
  readonly p95Ms: number
  readonly p99Ms: number
  /** Of one round, where the side tells. */
  readonly latenciesMs?: readonly number[]
}

/** One short round of every scenario. */
export interface Slice {
  /** By the scenario's name, the same for all sides. */
  readonly scenarios: Readonly<Record<string, ScenarioFigures>>
  readonly rssBytes: number
}

export interface SideQuality {
  readonly passed: boolean
  readonly worstCosine: number
  readonly checks: readonly QualityCheck[]
}

export interface SideInfo {
  readonly engine: string
  readonly precision: string
  readonly device: string
  readonly runtimeVersion: string
  /** What the engine holds, on the GPU where it runs there. */
  readonly memoryBytes: number
  readonly modelHash: string
}

/** Every call fails with an error when the configuration, or the process that runs it, does. */
export interface Side extends AsyncDisposable {
  readonly info: SideInfo
  /** One round. @param options.all the scenarios too that only targets ask for */
  measure(options?: { readonly all: boolean }): Promise<Slice>
  assess(): Promise<SideQuality>
}

/** @throws when the configuration does not start */
export type StartSide = (settings: Settings) => Promise<Side>

/** The figures of many slices: the median of each rate; percentiles over the latencies of all rounds, since one short round
 * has too few for a p99. */
export function toSlice(slices: readonly Slice[], median: (values: readonly number[]) => number): Slice {
  const names = Object.keys(slices[0]!.scenarios)
  const figures = (name: string): ScenarioFigures => {
    const of = (key: 'textsPerSecond' | 'p50Ms' | 'p95Ms' | 'p99Ms'): number =>
      median(slices.map((slice) => slice.scenarios[name]![key]))
    const latenciesMs: readonly number[] = slices.flatMap((slice) => slice.scenarios[name]!.latenciesMs ?? [])
    if (latenciesMs.length > 0) {
      return {
        textsPerSecond: of('textsPerSecond'),
        p50Ms: percentile(latenciesMs, 0.5),
        p95Ms: percentile(latenciesMs, 0.95),
        p99Ms: percentile(latenciesMs, 0.99),
      }
    }
    return {
      textsPerSecond: of('textsPerSecond'),
      p50Ms: of('p50Ms'),
      p95Ms: of('p95Ms'),
      p99Ms: of('p99Ms'),
    }
  }
  return {
    scenarios: Object.fromEntries(names.map((name) => [name, figures(name)])),
    rssBytes: Math.max(...slices.map((slice) => slice.rssBytes)),
  }
}
