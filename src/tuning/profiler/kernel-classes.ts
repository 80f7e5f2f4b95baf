/** What a kernel is for, by its name: names are all that cuBLASLt and TensorRT tell of theirs. */
import { groupBy } from './group-by.ts'
import type { TimeSummaryRow } from './time-summary.ts'

export const kernelClasses = [
  'FP8 GEMM',
  'INT8 GEMM',
  'BF16 GEMM',
  'FP16 GEMM',
  'FP32 GEMM',
  'GEMM of unknown precision',
  'attention',
  'norm',
  'elementwise',
  'copy',
  'other',
] as const
export type KernelClass = (typeof kernelClasses)[number]

export interface KernelClassRow {
  readonly kernelClass: KernelClass
  readonly totalNs: number
  readonly instances: number
  /** Of the time of all kernels, 0 to 1. */
  readonly share: number
}

/** The first that matches decides. */
const patterns: readonly (readonly [RegExp, KernelClass])[] = [
  [/mha|flash|attention|softmax/i, 'attention'],
  // Copies and transpositions for a product, and the sum of its parts, are none themselves.
  [/splitk_?reduce|reduce_?splitk|scale_of_amax|find_amax|quantize/i, 'elementwise'],
  // The native engine's own, for E4M3 alone.
  [/few_rows_product/, 'FP8 GEMM'],
  [/gemm|gemv|matmul|nvjet|cutlass|wgmma/i, 'GEMM of unknown precision'],
  [/layer_?norm|rms_?norm|qk_?norm|norm_rope/i, 'norm'],
  // TensorRT names its generated kernels after their operations, three letters each: mean, square root, …
  [/__myl_\w*?Mea\w*?(?:Sqr|Rsq|Div)/, 'norm'],
  [/memcpy|memset|copy|transpose/i, 'copy'],
  [
    /__myl_|swiglu|silu|gelu|relu|embedding|gather|pooling|rope|elementwise|residual|cast|convert/i,
    'elementwise',
  ],
]

export function classifyKernel(name: string): KernelClass {
  const found = patterns.find(([pattern]) => pattern.test(name))?.[1] ?? 'other'
  return found === 'GEMM of unknown precision' ? gemmClass(name) : found
}

/** One row a class that occurs, the one with the largest time first. */
export function classifyTimes(rows: readonly TimeSummaryRow[]): KernelClassRow[] {
  const allNs = sumTotals(rows)
  return [...groupBy(rows, ({ name }) => classifyKernel(name))]
    .map(([kernelClass, group]) => {
      const totalNs = sumTotals(group)
      const instances = group.reduce((sum, row) => sum + row.instances, 0)
      return { kernelClass, totalNs, instances, share: allNs === 0 ? 0 : totalNs / allNs }
    })
    .sort((a, b) => b.totalNs - a.totalNs)
}

function sumTotals(rows: readonly TimeSummaryRow[]): number {
  return rows.reduce((sum, { totalNs }) => sum + totalNs, 0)
}

/** What the product multiplies: the first type in the name, for that of A stands before those of B and of the sum. */
function gemmClass(name: string): KernelClass {
  // cuBLASLt on Hopper and later: nvjet_qqtst_… multiplies q by q into t; one letter where A and B are of one type (tst).
  const letter = /nvjet_(?:sm\d+_)?([a-z])/.exec(name)?.[1]
  if (letter !== undefined) return nvjetTypes[letter] ?? 'GEMM of unknown precision'
  const first =
    /(e4m3|e5m2|fp8|qmma)|(i8|s8|int8|imma)|(bf16|bfloat)|(f16|fp16|half|hmma|hgemm)|(tf32|f32|fp32|float|sgemm)/i
  const [, fp8, int8, bf16, fp16, fp32] = first.exec(name) ?? []
  if (fp8 !== undefined) return 'FP8 GEMM'
  if (int8 !== undefined) return 'INT8 GEMM'
  if (bf16 !== undefined) return 'BF16 GEMM'
  if (fp16 !== undefined) return 'FP16 GEMM'
  return fp32 === undefined ? 'GEMM of unknown precision' : 'FP32 GEMM'
}

const nvjetTypes: Readonly<Record<string, KernelClass>> = {
  q: 'FP8 GEMM',
  o: 'FP8 GEMM',
  i: 'INT8 GEMM',
  t: 'BF16 GEMM',
  h: 'FP16 GEMM',
  s: 'FP32 GEMM',
}
