/** What to try next, each with the number that speaks for it. */
import {
  maxMemcpyShare,
  maxUnexpectedShare,
  minProductShare,
  minUtilisation,
  percent,
  productClassOf,
  type ProfiledWorkload,
  sumShares,
  unexpectedProducts,
} from './criteria.ts'
import type { GpuProfile } from './gpu-profile.ts'

export interface Advice {
  readonly text: string
  readonly reason: string
}

/** `share`: of the time, what could be won at most. */
type Rule = (
  profile: GpuProfile,
  workload: ProfiledWorkload,
) => (Advice & { readonly share: number }) | undefined

/** Below this a pass reads all weights for few products: 1 x 16 tokens take as long as 1 x 256 on an H100. */
const smallBatchTokens = 256
/** Norms and elementwise kernels of less than this are worth no thought. */
const noticeableShare = 0.25

/** The one that could win most first. Where nothing stands out, the largest kernel; none of a recording without kernels. */
export function adviseGpu(profile: GpuProfile, workload: ProfiledWorkload): Advice[] {
  const [top] = profile.kernels
  if (top === undefined) return []
  const found = rules
    .flatMap((rule) => rule(profile, workload) ?? [])
    .sort((a, b) => b.share - a.share)
    .map(({ text, reason }) => ({ text, reason }))
  if (found.length > 0) return found
  const reason = `${top.name} takes ${top.timePercent.toFixed(0)} % of the kernels' time`
  return [{ text: 'nothing stands out: the rest is in the kernels themselves', reason }]
}

const rules: readonly Rule[] = [
  function lostRecords({ droppedRecords }) {
    if (droppedRecords === 0) return undefined
    const reason = `${droppedRecords} records were lost: all shares are of the rest`
    return { share: 1, text: 'profile fewer iterations', reason }
  },

  function launchBound({ busy, graphRatio }) {
    if (busy.busyRatio > minUtilisation || busy.launchGapNs < busy.hostGapNs) return undefined
    const share = busy.launchGapNs / busy.spanNs
    const reason = `pauses between kernels are ${percent(share)} of the time, half of them over ${toUs(busy.medianGapNs)} us; ${percent(graphRatio)} of the kernels are in CUDA graphs`
    const text =
      graphRatio < 0.5
        ? 'record CUDA graphs: --cuda-graphs 32'
        : 'larger batches: the same pauses for more work'
    return { share, text, reason }
  },

  function hostBound({ busy, pauses }) {
    if (busy.busyRatio > minUtilisation || busy.hostGapNs <= busy.launchGapNs) return undefined
    const share = busy.hostGapNs / busy.spanNs
    const reason = `the GPU waits for the host ${percent(share)} of the time, up to ${toUs(busy.longestGapNs)} us at once${pauses[0] === undefined ? '' : `, most of it at ${pauses[0].name}`}`
    return {
      share,
      text: 'more requests at once, more batches under way (--streams), or larger ones',
      reason,
    }
  },

  function copyBound({ memcpys }) {
    const share = sumShares(memcpys)
    if (share < maxMemcpyShare) return undefined
    const pageable = sumShares(memcpys.filter(({ hostMemory }) => hostMemory === 'pageable'))
    const reason = `copies take ${percent(share, 1)} of the busy time, ${percent(pageable, 1)} are of pageable memory`
    return pageable > share / 2
      ? { share, text: 'copy from pinned memory: pageable memory is copied twice', reason }
      : { share, text: 'let copies run beside kernels: --streams 2', reason }
  },

  function smallBatches({ classes }, { tokensPerBatch }) {
    const products = sumShares(classes.filter(({ kernelClass }) => kernelClass.includes('GEMM')))
    if (tokensPerBatch >= smallBatchTokens || products <= minProductShare) return undefined
    const reason = `a batch has ${Math.round(tokensPerBatch)} tokens, and ${percent(products)} of the kernels' time are products, which take as long for ${smallBatchTokens}`
    return { share: products / 2, text: 'batch more: more clients, or a longer --batch-timeout-ms', reason }
  },

  function otherPrecision(profile, { precision }) {
    const wanted = productClassOf(precision)
    if (wanted === undefined) return undefined
    const strangers = unexpectedProducts(profile, wanted)
    const share = sumShares(strangers)
    if (share <= maxUnexpectedShare) return undefined
    const names = strangers.map((each) => `${each.kernelClass} ${percent(each.share, 1)}`).join(', ')
    const reason = `${names} of the kernels' time where ${wanted} was asked for`
    return {
      share,
      text: "see which layers fell back: 'akidb-embedding verify-precision' lists them",
      reason,
    }
  },

  function lowerPrecision({ classes }) {
    const share = sumShares(classes.filter(({ kernelClass }) => /(BF16|FP16|FP32) GEMM/.test(kernelClass)))
    if (share <= minProductShare) return undefined
    const reason = `products of 16 bits and more take ${percent(share)} of the kernels' time`
    return { share: share / 2, text: 'FP8 on a GPU of Ada, Hopper or later: --precision fp8', reason }
  },

  function smallKernels({ classes }, { precision }) {
    const small = classes.filter(({ kernelClass }) => kernelClass === 'elementwise' || kernelClass === 'norm')
    const share = sumShares(small)
    if (share <= noticeableShare) return undefined
    const launches = small.reduce((sum, { instances }) => sum + instances, 0)
    const reason = `norms and elementwise kernels take ${percent(share)} of the kernels' time in ${launches} launches`
    const text =
      precision === 'fp8-rowwise'
        ? '--precision fp8: one scale a matrix needs no pass over each row'
        : 'compare --engine tensorrt and cuda: one may fuse more'
    return { share: share / 2, text, reason }
  },
]

function toUs(ns: number): string {
  return (ns / 1e3).toFixed(1)
}
