/** A host recording's sums: how long each stage took, how busy engine and event loop were. */
import { type BusyTime, measureBusyTime } from './busy-time.ts'
import type { HostRecording } from './host-recorder.ts'
import type { HostTrack } from './records.ts'
import { summariseTimes, type TimeSummaryRow } from './time-summary.ts'

export interface HostProfile {
  readonly durationMs: number
  readonly requests: number
  readonly failedRequests: number
  readonly textsPerSecond: number
  readonly tokensPerSecond: number
  readonly batches: number
  readonly tokensPerBatch: number
  /** Of the cells of rectangles, those that hold no token: 0 to 1. */
  readonly paddingRatio: number
  /** One row a stage, in the order of a request's way; timePercent is of the requests' time. */
  readonly stages: readonly TimeSummaryRow[]
  /** Some batch was in the engine. */
  readonly engineBusy: BusyTime
  /** 0 to 1. */
  readonly eventLoopUtilisation: number
  /** CPU time by time: 2 where two cores worked all the time. */
  readonly busyCores: number
  readonly droppedSpans: number
}

const stageNames: Readonly<Record<HostTrack, string>> = {
  requests: 'request, from its text to its vectors',
  tokenize: 'tokenise',
  queue: 'wait for a batch',
  batches: 'batch in the engine',
}

export function summariseHost(recording: HostRecording): HostProfile {
  const { startedMs, endedMs, spans, batches, texts, tokens, paddedTokens } = recording
  const durationMs = endedMs - startedMs
  const seconds = durationMs / 1e3
  const rows = Object.entries(stageNames).flatMap(([track, name]) =>
    summariseTimes(
      spans
        .filter((span) => span.track === track)
        .map((span) => ({ name, durationNs: span.durationMs * 1e6 })),
    ),
  )
  const requests = rows.find(({ name }) => name === stageNames.requests)
  const requestNs = requests?.totalNs ?? 0
  const engineWork = spans
    .filter(({ track }) => track === 'batches')
    .map((span) => ({
      startNs: (span.startedMs - startedMs) * 1e6,
      endNs: (span.startedMs - startedMs + span.durationMs) * 1e6,
    }))
  return {
    durationMs,
    requests: requests?.instances ?? 0,
    failedRequests: recording.failedRequests,
    textsPerSecond: texts / seconds,
    tokensPerSecond: tokens / seconds,
    batches,
    tokensPerBatch: batches === 0 ? 0 : tokens / batches,
    paddingRatio: paddedTokens === 0 ? 0 : 1 - tokens / paddedTokens,
    stages: rows.map((row) => ({
      ...row,
      timePercent: requestNs === 0 ? 0 : (100 * row.totalNs) / requestNs,
    })),
    engineBusy: measureBusyTime(engineWork, { startNs: 0, endNs: durationMs * 1e6 }),
    eventLoopUtilisation: recording.eventLoopUtilisation,
    busyCores: recording.cpuMs / durationMs,
    droppedSpans: recording.droppedSpans,
  }
}

/** Of the requests' time, 0 to 1. */
export function stageShare({ stages }: HostProfile, track: HostTrack): number {
  return (stages.find(({ name }) => name === stageNames[track])?.timePercent ?? 0) / 100
}
