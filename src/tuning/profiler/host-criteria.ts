/** Whether engine and host do what the machine could, and what to try next, for engines of every kind. */
import type { Advice } from './advice.ts'
import { type Criterion, maxUnexpectedShare, minProductShare, minUtilisation, percent } from './criteria.ts'
import { type HostProfile, stageShare } from './host-profile.ts'
import { classifyNode, type NodeClass, type NodeProfile } from './node-summary.ts'

export interface ProfiledEngine {
  readonly precision: string
  /** Requests under way at once, where the profile sent them. */
  readonly clients?: number | undefined
}

/** JavaScript that works half of the time delays every second answer by some of it. */
export const maxEventLoopUtilisation = 0.5
/** Copies and conversions between layouts and precisions compute nothing. */
export const maxLayoutShare = 0.1
const noticeableShare = 0.2
/** A batch that one thread computes in a millisecond or so (MiniLM): beyond it a batch gains little. */
const smallBatchTokens = 64

export function judgeHost(host: HostProfile): Criterion[] {
  const { engineBusy, eventLoopUtilisation, failedRequests } = host
  return [
    {
      name: 'engine utilisation',
      value: percent(engineBusy.busyRatio),
      target: `> ${percent(minUtilisation)}`,
      isMet: engineBusy.busyRatio > minUtilisation,
    },
    {
      name: 'event loop utilisation',
      value: percent(eventLoopUtilisation),
      target: `< ${percent(maxEventLoopUtilisation)}`,
      isMet: eventLoopUtilisation < maxEventLoopUtilisation,
    },
    ...(failedRequests === 0
      ? []
      : [{ name: 'failed requests', value: String(failedRequests), target: '0', isMet: false }]),
  ]
}

export function judgeNodes(
  nodes: NodeProfile,
  { precision }: Pick<ProfiledEngine, 'precision'>,
): Criterion[] {
  const products = shareOf(nodes, 'product')
  const layout = shareOf(nodes, 'layout')
  const strangers = productsOfOtherPrecision(nodes, precision)
  return [
    {
      name: "products, of the nodes' time",
      value: percent(products),
      target: `> ${percent(minProductShare)}`,
      isMet: products > minProductShare,
    },
    {
      name: 'products of another precision',
      value:
        strangers.share === 0 ? 'none' : `${strangers.kernels.join(', ')} ${percent(strangers.share, 1)}`,
      target: `<= ${percent(maxUnexpectedShare)}`,
      isMet: strangers.share <= maxUnexpectedShare,
    },
    {
      name: "changes of layout, of the nodes' time",
      value: percent(layout, 1),
      target: `< ${percent(maxLayoutShare)}`,
      isMet: layout < maxLayoutShare,
    },
  ]
}

type Rule = (
  host: HostProfile,
  engine: ProfiledEngine,
  nodes: NodeProfile | undefined,
) => (Advice & { readonly share: number }) | undefined

/** The one that could win most first; empty where nothing stands out. */
export function adviseHost(host: HostProfile, engine: ProfiledEngine, nodes?: NodeProfile): Advice[] {
  return rules
    .flatMap((rule) => rule(host, engine, nodes) ?? [])
    .sort((a, b) => b.share - a.share)
    .map(({ text, reason }) => ({ text, reason }))
}

const rules: readonly Rule[] = [
  function busyEventLoop({ eventLoopUtilisation: share }) {
    if (share < maxEventLoopUtilisation) return undefined
    const reason = `the event loop works ${percent(share)} of the time`
    return { share, text: 'several texts a request, or another process beside this one', reason }
  },

  function slowTokeniser(host) {
    const share = stageShare(host, 'tokenize')
    if (share < noticeableShare) return undefined
    const reason = `tokenising takes ${percent(share)} of the requests' time`
    return { share, text: 'more threads for it (--tokenizer-workers), or shorter texts', reason }
  },

  function idleEngine({ engineBusy }, { clients }) {
    if (engineBusy.busyRatio > minUtilisation) return undefined
    const share = 1 - engineBusy.busyRatio
    const load = clients === undefined ? 'under this load' : `with ${clients} requests at once`
    const reason = `${load} the engine has nothing to do ${percent(share)} of the time`
    return { share, text: 'it could take more requests at once', reason }
  },

  function fullMachine(host) {
    const share = stageShare(host, 'queue')
    if (share < 0.5 || host.engineBusy.busyRatio <= minUtilisation) return undefined
    const reason = `requests wait ${percent(share)} of their time for an engine that is busy ${percent(host.engineBusy.busyRatio)} of it`
    return { share, text: 'the machine is full: another replica, or fewer requests at once', reason }
  },

  function padding({ paddingRatio: share }) {
    if (share < noticeableShare) return undefined
    const reason = `${percent(share)} of the batches' cells would be padding in one rectangle`
    return { share: share / 2, text: 'texts of like length in one request', reason }
  },

  function smallBatches({ tokensPerBatch, batches }) {
    if (batches === 0 || tokensPerBatch >= smallBatchTokens) return undefined
    const reason = `a batch has ${Math.round(tokensPerBatch)} tokens`
    return { share: 0.2, text: 'several texts a request, where latency allows it', reason }
  },

  function fallenBack(_host, { precision }, nodes) {
    if (nodes === undefined) return undefined
    const { share, kernels } = productsOfOtherPrecision(nodes, precision)
    if (share <= maxUnexpectedShare) return undefined
    const reason = `products take ${percent(share, 1)} of the nodes' time as ${kernels.join(', ')} where ${precision} was asked for`
    return { share, text: 'compare with --precision fp32: the precision may not pay here', reason }
  },

  function layoutChanges(_host, _engine, nodes) {
    if (nodes === undefined) return undefined
    const share = shareOf(nodes, 'layout')
    if (share < maxLayoutShare) return undefined
    const most = nodes.nodes.toSorted((a, b) => b.totalNs - a.totalNs).find(isLayout)
    const reason = `copies and conversions take ${percent(share, 1)} of the nodes' time, most of it ${most?.name ?? 'unknown'}`
    return { share, text: 'compare --engine onnx and openvino: they fuse differently', reason }
  },

  function wideProducts(_host, { precision }, nodes) {
    if (nodes === undefined || precision !== 'fp32') return undefined
    const share = shareOf(nodes, 'product')
    if (share < minProductShare) return undefined
    const reason = `products at fp32 take ${percent(share)} of the nodes' time`
    return {
      share: share / 2,
      text: '--engine openvino --precision bf16 on a CPU that has it (doctor tells)',
      reason,
    }
  },
]

function isLayout({ operation }: { readonly operation: string }): boolean {
  return classifyNode(operation) === 'layout'
}

function shareOf({ classes }: NodeProfile, wanted: NodeClass): number {
  return classes.find(({ nodeClass }) => nodeClass === wanted)?.share ?? 0
}

/** How kernels' names end: OpenVINO's 'brgemm_avx512_bf16', ONNX Runtime's 'CPU float'. */
const typeNames: Readonly<Record<string, RegExp>> = {
  fp32: /(?:f32|float)$/,
  bf16: /(?:bf16|bfloat16)$/,
  fp16: /(?:^|[_ ])(?:f16|float16)$/,
  int8: /(?:[iu]8|u?int8)$/i,
}

function productsOfOtherPrecision(
  { operations }: NodeProfile,
  precision: string,
): { readonly share: number; readonly kernels: readonly string[] } {
  const wanted = typeNames[precision]
  const strangers = operations.filter(
    ({ operation, kernel }) => classifyNode(operation) === 'product' && wanted?.test(kernel) === false,
  )
  return {
    share: strangers.reduce((sum, { timePercent }) => sum + timePercent / 100, 0),
    kernels: [...new Set(strangers.map(({ kernel }) => kernel))],
  }
}
