/** Whether a GPU does what it was bought for. What to try where it does not: advice.ts. */
import type { GpuProfile } from './gpu-profile.ts'
import type { KernelClass } from './kernel-classes.ts'

export interface Criterion {
  readonly name: string
  readonly value: string
  readonly target: string
  readonly isMet: boolean
}

export interface ProfiledWorkload {
  /** Of the engine: its products should have it. 'auto' and undefined: not judged. */
  readonly precision?: string | undefined
  /** Of an average batch. */
  readonly tokensPerBatch: number
}

export const minUtilisation = 0.8
export const minProductShare = 0.5
export const maxMemcpyShare = 0.05
/** A product or two of another precision may be meant: pooling, a scale. */
export const maxUnexpectedShare = 0.01

export function judgeGpu(profile: GpuProfile, { precision }: ProfiledWorkload): Criterion[] {
  const { busy, droppedRecords } = profile
  const memcpyShare = sumShares(profile.memcpys)
  const wanted = productClassOf(precision)
  return [
    {
      name: 'GPU utilisation',
      value: percent(busy.busyRatio),
      target: `> ${percent(minUtilisation)}`,
      isMet: busy.busyRatio > minUtilisation,
    },
    ...(wanted === undefined ? [] : judgeProducts(profile, wanted)),
    {
      name: 'copies, of the busy time',
      value: percent(memcpyShare, 2),
      target: `< ${percent(maxMemcpyShare)}`,
      isMet: memcpyShare < maxMemcpyShare,
    },
    ...(droppedRecords === 0
      ? []
      : [{ name: 'records lost', value: String(droppedRecords), target: '0', isMet: false }]),
  ]
}

function judgeProducts(profile: GpuProfile, wanted: KernelClass): Criterion[] {
  const share = sumShares(profile.classes.filter(({ kernelClass }) => kernelClass === wanted))
  const strangers = unexpectedProducts(profile, wanted)
  return [
    {
      name: `${wanted}, of the kernels' time`,
      value: percent(share),
      target: `> ${percent(minProductShare)}`,
      isMet: share > minProductShare,
    },
    {
      name: 'products of another precision',
      value:
        strangers.length === 0
          ? 'none'
          : strangers.map(({ kernelClass, share: part }) => `${kernelClass} ${percent(part, 1)}`).join(', '),
      target: `<= ${percent(maxUnexpectedShare)}`,
      isMet: sumShares(strangers) <= maxUnexpectedShare,
    },
  ]
}

export function unexpectedProducts({ classes }: GpuProfile, wanted: KernelClass): GpuProfile['classes'] {
  return classes.filter(({ kernelClass }) => kernelClass.includes('GEMM') && kernelClass !== wanted)
}

/** 'fp8-rowwise' -> 'FP8 GEMM'; undefined for 'auto' */
export function productClassOf(precision: string | undefined): KernelClass | undefined {
  switch (precision) {
    case 'fp8':
    case 'fp8-rowwise':
      return 'FP8 GEMM'
    case 'int8':
      return 'INT8 GEMM'
    case 'bf16':
      return 'BF16 GEMM'
    case 'fp16':
      return 'FP16 GEMM'
    case 'fp32':
      return 'FP32 GEMM'
    default:
      return undefined
  }
}

export function sumShares(rows: readonly { readonly share: number }[]): number {
  return rows.reduce((sum, { share }) => sum + share, 0)
}

export function percent(share: number, digits = 0): string {
  return `${(100 * share).toFixed(digits)} %`
}
