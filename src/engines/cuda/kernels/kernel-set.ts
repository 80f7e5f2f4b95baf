/** The kernels that a model needs, all of them: what is compiled when it is loaded. */
import type { MatmulPrecision } from '../../../hardware/gpu/matmul.ts'
import { embeddingVariant } from './embedding.ts'
import { type FewRowsOptions, fewRowsProductVariant, takesFewRows } from './few-rows-product.ts'
import { type FlashAttentionOptions, flashAttentionVariant } from './flash-attention.ts'
import { gatherRowsVariant } from './gather-rows.ts'
import { geluVariant } from './gelu.ts'
import type { KernelVariant } from './kernel-loader.ts'
import { poolingVariant } from './pooling.ts'
import { type HeadShape, qkNormRopeVariant } from './qk-norm-rope.ts'
import { quantizeRowsVariant } from './quantize-rows.ts'
import { residualLayernormVariant } from './residual-layernorm.ts'
import { residualRmsnormVariant } from './residual-rmsnorm.ts'
import { swigluVariant } from './swiglu.ts'

export interface TransformerShape extends HeadShape {
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly epsilon: number
}

export function qwen3Kernels(shape: TransformerShape, output: MatmulPrecision): KernelVariant[] {
  const { hiddenSize, intermediateSize, epsilon, heads, kvHeads, headSize } = shape
  const ofHidden = { rowSize: hiddenSize, output }
  const attendedBytes = heads * headSize * (output === 'fp8' ? 1 : 2)
  return [
    residualRmsnormVariant({ ...ofHidden, epsilon, withDelta: false }),
    qkNormRopeVariant({ ...shape, norm: { epsilon }, keysOnly: true }),
    flashAttentionVariant(qwen3Attention(shape, output)),
    swigluVariant({ rowSize: intermediateSize, output }),
    poolingVariant({ rowSize: hiddenSize, pooling: 'last-token', rmsNorm: { epsilon } }),
    gatherRowsVariant({ firstBytes: hiddenSize * 2, secondBytes: attendedBytes }),
    gatherRowsVariant({ firstBytes: (heads + 2 * kvHeads) * headSize * 2 }),
    gatherRowsVariant({ firstBytes: attendedBytes }),
    ...quantizers(output, [hiddenSize, intermediateSize, heads * headSize]),
    ...(output === 'bf16' ? [] : Object.values(qwen3FewRows(shape, output) ?? {}).map(fewRowsProductVariant)),
  ]
}

/** The products of a batch of few tokens; undefined for a model of other sizes than they take. */
export function qwen3FewRows(
  { hiddenSize, intermediateSize, heads, kvHeads, headSize }: TransformerShape,
  precision: FewRowsOptions['precision'],
): Record<'qkv' | 'dense' | 'gateUp' | 'down', FewRowsOptions> | undefined {
  const attentionSize = heads * headSize
  const written = { precision, output: 'written' } as const
  const added = { precision, output: 'added' } as const
  const all = {
    qkv: { columns: attentionSize + 2 * kvHeads * headSize, inner: hiddenSize, ...written },
    dense: { columns: hiddenSize, inner: attentionSize, ...added },
    gateUp:
      precision === 'fp8'
        ? ({ columns: intermediateSize, inner: hiddenSize, precision, output: 'swiglu' } as const)
        : { columns: 2 * intermediateSize, inner: hiddenSize, ...written },
    down: { columns: hiddenSize, inner: intermediateSize, ...added },
  }
  return Object.values(all).every(takesFewRows) ? all : undefined
}

/** Where the scale of what comes out is known, that is quantised on its way out; queries are rotated on their way in. */
export function qwen3Attention(
  { heads, kvHeads, headSize, epsilon }: HeadShape & { readonly epsilon: number },
  output: MatmulPrecision,
): FlashAttentionOptions {
  return { heads, kvHeads, headSize, isCausal: true, rope: { epsilon }, output: formOf(output) }
}

/** The same, without rotation. */
export function bertAttention(
  { heads, kvHeads, headSize }: HeadShape,
  output: MatmulPrecision,
): FlashAttentionOptions {
  return { heads, kvHeads, headSize, isCausal: false, output: formOf(output) }
}

function formOf(output: MatmulPrecision): 'bf16' | 'fp8' {
  return output === 'fp8' ? 'fp8' : 'bf16'
}

export function bertKernels(shape: TransformerShape, output: MatmulPrecision): KernelVariant[] {
  const { hiddenSize, intermediateSize, epsilon, heads, headSize } = shape
  const ofHidden = { rowSize: hiddenSize, output }
  return [
    embeddingVariant({ ...ofHidden, layernorm: { epsilon } }),
    flashAttentionVariant(bertAttention(shape, output)),
    residualLayernormVariant({ ...ofHidden, epsilon }),
    geluVariant({ rowSize: intermediateSize, output, approximate: false }),
    poolingVariant({ rowSize: hiddenSize, pooling: 'mean' }),
    poolingVariant({ rowSize: hiddenSize, pooling: 'cls' }),
    gatherRowsVariant({
      firstBytes: hiddenSize * 2,
      secondBytes: heads * headSize * (output === 'fp8' ? 1 : 2),
    }),
    ...quantizers(output, [hiddenSize, intermediateSize, heads * headSize]),
  ]
}

/** Weights, and what comes out of the attention. */
function quantizers(output: MatmulPrecision, rowSizes: readonly number[]): KernelVariant[] {
  if (output === 'bf16') return []
  return [...new Set(rowSizes)].map((rowSize) => quantizeRowsVariant({ rowSize, output, source: 'bf16' }))
}
