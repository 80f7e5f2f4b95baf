/** What a graph computes in, takes and gives. */
import type { Pooling } from '../spec.ts'

export const exportPrecisions = ['fp32', 'bf16', 'fp16', 'fp8'] as const
export type ExportPrecision = (typeof exportPrecisions)[number]

/** The type of matrix products and attention; norms and the residual stream are always f32, which TensorRT makes no slower
 * (bf16, 6 layers of Qwen3-4B, 32 x 512 tokens on an H100: 26.60 ms, with bf16 residuals 26.49). */
export type ArithmeticType = 'float' | 'float16' | 'bfloat16'

export const arithmeticTypes: Readonly<Record<ExportPrecision, ArithmeticType>> = {
  fp32: 'float',
  bf16: 'bfloat16',
  fp16: 'float16',
  // Only the inputs and weights of linear layers are E4M3.
  fp8: 'bfloat16',
}

/** last_hidden_state f32 [batch, sequence, hiddenSize], or sentence_embedding f32 [batch, hiddenSize], not normalised. */
export const graphOutputs = ['tokens', 'pooled'] as const
export type GraphOutput = (typeof graphOutputs)[number]
/** input_ids int64 [batch, sequence], or inputs_embeds [batch, sequence, hiddenSize] of the arithmetic's type, for a
 * vocabulary table that stays in the host's memory. */
export const graphInputs = ['ids', 'embeddings'] as const
export type GraphInput = (typeof graphInputs)[number]

export interface GraphOptions {
  readonly type: ArithmeticType
  readonly output: GraphOutput
  readonly pooling: Pooling
  readonly inputs: GraphInput
  /** Set for E4M3. @see LinearOptions */
  readonly inputScale?: ((inputName: string) => number) | undefined
  /** Adds the output activation_amax. */
  readonly observe?: boolean
}

/** Added to the scores of what must not be seen: finite in every type, and far below any score. */
export const maskedScore = -60_000
