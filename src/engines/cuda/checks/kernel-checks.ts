/** Every check of every kernel. */
import { embeddingChecks } from '../kernels/embedding.check.ts'
import { fewRowsProductChecks } from '../kernels/few-rows-product.check.ts'
import { flashAttentionChecks } from '../kernels/flash-attention.check.ts'
import { gatherRowsChecks } from '../kernels/gather-rows.check.ts'
import { geluChecks } from '../kernels/gelu.check.ts'
import { poolingChecks } from '../kernels/pooling.check.ts'
import { qkNormRopeChecks } from '../kernels/qk-norm-rope.check.ts'
import { quantizeRowsChecks } from '../kernels/quantize-rows.check.ts'
import { residualLayernormChecks } from '../kernels/residual-layernorm.check.ts'
import { residualRmsnormChecks } from '../kernels/residual-rmsnorm.check.ts'
import { swigluChecks } from '../kernels/swiglu.check.ts'
import type { KernelCheck } from './kernel-bench.ts'

export const kernelChecks: readonly KernelCheck[] = [
  ...embeddingChecks,
  ...residualRmsnormChecks,
  ...residualLayernormChecks,
  ...qkNormRopeChecks,
  ...flashAttentionChecks,
  ...fewRowsProductChecks,
  ...swigluChecks,
  ...geluChecks,
  ...gatherRowsChecks,
  ...poolingChecks,
  ...quantizeRowsChecks,
]
