/** The best that is physically possible: what a text costs, over what this machine can do. No tuning goes beyond it. */
import { type ModelShape, countLinearWeights, countTextFlops } from './model-work.ts'

export const weightBytesByPrecision = { fp32: 4, bf16: 2, fp8: 1 } as const
export type PeakPrecision = keyof typeof weightBytesByPrecision

export interface MachinePeak {
  /** e.g. 'NVIDIA H100 80GB HBM3', 'AMD EPYC, 2 threads' */
  readonly device: string
  readonly isGpu: boolean
  readonly flopsByPrecision: Readonly<Partial<Record<PeakPrecision, number>>>
  readonly memoryBytesPerSecond: number
  /** 'computed' from a data sheet, for a machine that is not here. */
  readonly source: 'measured' | 'computed'
}

/** NVIDIA Jetson AGX Thor, data sheet: 517 TFLOPS of dense FP8, half of it at bf16, 273 GB/s. */
export const jetsonThor: MachinePeak = {
  device: 'Jetson Thor',
  isGpu: true,
  flopsByPrecision: { fp8: 517e12, bf16: 258.5e12 },
  memoryBytesPerSecond: 273e9,
  source: 'computed',
}

/** Everything the bounds are computed from; goes into the journal. */
export interface LimitFacts {
  readonly shape: ModelShape
  /** Of each text that the clients send. */
  readonly textTokens: readonly number[]
  readonly peak: MachinePeak
}

export interface SpeedOfLight {
  /** That gives the lowest bounds here. */
  readonly precision: PeakPrecision
  readonly isGpu: boolean
  readonly weightBytes: number
  readonly meanTokens: number
  readonly meanTextFlops: number
  /** Of texts that come alone, ms; the percentiles are over the lengths of the texts. */
  readonly p50Ms: number
  readonly p95Ms: number
  readonly p99Ms: number
  /** One client that sends a text when it has the answer to the last. */
  readonly textsPerSecondAlone: number
  /** Batches without end: arithmetic alone counts. */
  readonly textsPerSecond: number
}

/** @returns undefined where no peak is known */
export function computeSpeedOfLight({ shape, textTokens, peak }: LimitFacts): SpeedOfLight | undefined {
  const bounds = (Object.keys(peak.flopsByPrecision) as PeakPrecision[]).map((precision) =>
    boundsAt(precision, { shape, textTokens, peak }),
  )
  return bounds.toSorted((a, b) => b.textsPerSecond - a.textsPerSecond)[0]
}

function boundsAt(precision: PeakPrecision, { shape, textTokens, peak }: LimitFacts): SpeedOfLight {
  const flopsPerSecond = peak.flopsByPrecision[precision]!
  const weightBytes = countLinearWeights(shape) * weightBytesByPrecision[precision]
  const readMs = (1000 * weightBytes) / peak.memoryBytesPerSecond
  const flops = textTokens.map((tokens) => countTextFlops(shape, tokens))
  // Whatever overlaps, a pass takes as long as its arithmetic, and as long as the reading of its weights.
  const aloneMs = flops.map((count) => Math.max((1000 * count) / flopsPerSecond, readMs))
  const ascending = aloneMs.toSorted((a, b) => a - b)
  const at = (share: number): number => ascending[Math.max(0, Math.ceil(share * ascending.length) - 1)]!
  return {
    precision,
    isGpu: peak.isGpu,
    weightBytes,
    meanTokens: mean(textTokens),
    meanTextFlops: mean(flops),
    p50Ms: at(0.5),
    p95Ms: at(0.95),
    p99Ms: at(0.99),
    textsPerSecondAlone: 1000 / mean(aloneMs),
    textsPerSecond: flopsPerSecond / mean(flops),
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** 'doubtful': it would take more than half of what the machine can do; what is measured as its peak, no real model reaches. */
export type Reach = 'reachable' | 'doubtful' | 'impossible'

/** @param share of the machine's best that the target takes: 1 is all of it */
export function toReach(share: number): Reach {
  if (share > 1) return 'impossible'
  return share > 0.5 ? 'doubtful' : 'reachable'
}
