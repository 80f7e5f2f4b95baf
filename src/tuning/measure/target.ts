import type { WorkloadRequest } from './workload.ts'

/** Counters since the target started; what it does not tell is undefined. */
export interface TargetCounters {
  readonly batches: number | undefined
  readonly inputs: number | undefined
  /** Over all batches: the share of each that is padding. */
  readonly paddingRatioSum: number | undefined
  readonly cpuSeconds: number | undefined
  /** Now. */
  readonly rssBytes: number | undefined
}

/** Something that embeds and is measured: a pipeline of this process, or a server. */
export interface LoadTarget extends AsyncDisposable {
  readonly name: string
  /** Settles when the vectors are there. @throws {EmbedError} TARGET_FAILED, or what a pipeline throws */
  send(request: WorkloadRequest): Promise<void>
  readCounters(): Promise<TargetCounters>
}
