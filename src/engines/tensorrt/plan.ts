/** What builder and runtime agree on: a plan is a serialised engine in a file, and the shapes it was made for. */
import type { TacticSource } from '../../hardware/ffi/tensorrt/builder-config.ts'
import type { Precision } from '../engine.ts'

/** One optimization profile of an engine: batch sizes by token lengths. Its place in `Plan.profiles` is its index. */
export interface Profile {
  /** 'low_latency'; several token lengths of one name are several profiles. */
  readonly name: string
  readonly minBatch: number
  readonly optBatch: number
  readonly maxBatch: number
  readonly minTokens: number
  readonly optTokens: number
  readonly maxTokens: number
}

export const planPrecisions = ['fp32', 'bf16', 'fp16', 'fp8'] as const satisfies readonly Precision[]
export type PlanPrecision = (typeof planPrecisions)[number]

/** 'ids': input_ids; 'embeddings': inputs_embeds, rows of the vocabulary table gathered on the host. */
export type PlanInputs = 'ids' | 'embeddings'
/** 'pooled': sentence_embedding f32 [batch, hidden], not normalised; 'tokens': last_hidden_state. */
export type PlanOutput = 'pooled' | 'tokens'

export interface Plan {
  /** Of the file that IRuntime::deserializeCudaEngine takes. */
  readonly path: string
  readonly sizeBytes: number
  readonly precision: PlanPrecision
  readonly profiles: readonly Profile[]
  readonly inputs: PlanInputs
  readonly output: PlanOutput
  /** Undefined for a file the user brought. */
  readonly builtInMs?: number | undefined
  readonly fromCache: boolean
}

/** What decides on the engine that comes out, beside model, TensorRT, driver and GPU. */
export interface PlanSettings {
  readonly precision: PlanPrecision
  readonly inputs: PlanInputs
  readonly output: PlanOutput
  readonly profiles: readonly Profile[]
  /** An engine for each name of a profile instead of one that holds all. */
  readonly enginePerProfile: boolean
  /** 'default': what TensorRT takes when nothing is said. */
  readonly tacticSources: readonly TacticSource[] | 'default'
  readonly workspaceBytes: number
  /** 0 builds fastest, 5 searches longest. */
  readonly builderOptimizationLevel: number
}
