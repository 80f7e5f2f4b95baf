/** The contract every engine keeps. test/engine-contract.ts runs one suite on all of them. */

import type { MetricSource } from '../telemetry/metric-source.ts'

/** A ragged batch: sequences laid end to end, no padding. */
export interface PackedBatch {
  /** i32 [totalTokens] */
  readonly inputIds: Int32Array
  /** i32 [batchSize + 1], starts at 0, ends at totalTokens, strictly increasing */
  readonly cumulativeLengths: Int32Array
}

/** values: f32 row-major [rows, dimensions]; rows = batchSize (pooled) or totalTokens (tokens). Caller owns. */
export interface Embeddings {
  readonly values: Float32Array
  readonly rows: number
  readonly dimensions: number
  readonly normalized: boolean
  /** Places in the batch of the sequences whose rows hold NaN or infinity, ascending; these rows are not to be used. */
  readonly nonFiniteSequences: readonly number[]
  /** Time inside the engine, pooling included. */
  readonly inferenceNs: bigint
}

export interface EmbedOptions {
  /** 'pooled': one vector a sequence; 'tokens': the last hidden state, one row a token. Default 'pooled'. */
  readonly output?: 'pooled' | 'tokens'
  /** L2-normalise the rows. Default true for pooled, false for tokens. */
  readonly normalize?: boolean
  /** No other call will run beside this one: the engine may give it all it has, for the shortest latency. */
  readonly exclusive?: boolean
  readonly signal?: AbortSignal
}

export const enginePrecisions = ['fp32', 'bf16', 'fp16', 'int8', 'fp8', 'fp8-rowwise'] as const
export type Precision = (typeof enginePrecisions)[number]

export interface EngineInfo {
  readonly name: string
  /** Human-readable: what it runs on, e.g. 'CPU, 2 threads, AVX512-BF16'. */
  readonly device: string
  readonly precision: Precision
  /** Version of the runtime underneath. */
  readonly runtimeVersion: string
  readonly dimensions: number
  readonly maxTokens: number
  readonly maxBatchSize: number
  /** Bytes that the engine holds (weights and buffers), as far as it can tell. */
  readonly memoryBytes: number
  readonly outputs: readonly ('pooled' | 'tokens')[]
  /** How many embed() calls may usefully run at once. */
  readonly concurrency: number
}

/** One run of one node of a model's graph, as the runtime ran it: fused with others, converted. */
export interface NodeTime {
  readonly name: string
  /** e.g. 'FullyConnected' */
  readonly operation: string
  /** Implementation and type of what it computes, in the runtime's words, e.g. 'brgemm_avx512_bf16'. */
  readonly kernel: string
  readonly durationNs: number
}

/** Of an engine that was made to measure its graph's nodes; one recording at a time. */
export interface NodeProfiler {
  /** Counts the runs from now on. */
  start(): void
  /** Ends the recording; await what counts before. May be called once an engine. */
  stop(): Promise<NodeTime[]>
}

/** @throws {EmbedError} ENGINE_FAILED, ENGINE_OUT_OF_MEMORY, OUTPUT_NOT_SUPPORTED, REQUEST_CANCELLED */
export interface Engine extends AsyncDisposable {
  readonly info: EngineInfo
  /** What it measures of itself beyond `info`, for /metrics. */
  readonly metrics?: readonly MetricSource[]
  /** Absent unless it was asked for: measuring each node costs time. */
  readonly nodeProfiler?: NodeProfiler | undefined
  embed(batch: PackedBatch, options?: EmbedOptions): Promise<Embeddings>
}
