/** All that a profile is made of: the GPU's records and the host's spans, on one clock. */
import type { GpuActivity } from '../../hardware/gpu/activity.ts'

export const hostTracks = ['requests', 'tokenize', 'queue', 'batches'] as const
export type HostTrack = (typeof hostTracks)[number]

/** Work of the host, as telemetry tells of it. */
export interface HostSpan {
  readonly track: HostTrack
  readonly name: string
  /** On the clock of performance.now(). */
  readonly startedMs: number
  readonly durationMs: number
  /** What a trace viewer shows of it: tokens, batch size, outcome. */
  readonly details?: Readonly<Record<string, number | string>>
}

export interface ProfileRecords {
  /** Undefined for an engine that uses no GPU. */
  readonly gpu: GpuActivity | undefined
  readonly spans: readonly HostSpan[]
}
