/** Times of a graph's nodes as tables with the columns of the kernel summary, for engines whose kernels no GPU runs. */
import type { NodeTime } from '../../engines/engine.ts'
import { groupBy } from './group-by.ts'
import { summariseTimes, type TimeSummaryRow } from './time-summary.ts'

export const nodeClasses = ['product', 'attention', 'norm', 'layout', 'elementwise', 'other'] as const
export type NodeClass = (typeof nodeClasses)[number]

export interface NodeSummaryRow extends TimeSummaryRow {
  readonly operation: string
  readonly kernel: string
}

export interface NodeClassRow {
  readonly nodeClass: NodeClass
  readonly totalNs: number
  readonly instances: number
  /** Of the time of all nodes, 0 to 1. */
  readonly share: number
}

export interface NodeProfile {
  /** One row an operation and kernel. */
  readonly operations: readonly NodeSummaryRow[]
  /** One row a node. */
  readonly nodes: readonly NodeSummaryRow[]
  readonly classes: readonly NodeClassRow[]
  /** Time of the nodes by the engine's time for the same batches: what is missing lies between nodes. */
  readonly measuredRatio: number
  /** Busy time a token while nodes are measured, one batch at a time, by that without. */
  readonly overheadRatio: number
}

export function summariseNodes(
  times: readonly NodeTime[],
): Pick<NodeProfile, 'operations' | 'nodes' | 'classes'> {
  const operations = summariseBy(times, ({ operation, kernel }) => `${operation} ${kernel}`)
  const allNs = sumTotals(operations)
  return {
    operations,
    nodes: summariseBy(times, ({ name }) => name),
    classes: [...groupBy(operations, ({ operation }) => classifyNode(operation))]
      .map(([nodeClass, rows]) => {
        const totalNs = sumTotals(rows)
        const instances = rows.reduce((sum, row) => sum + row.instances, 0)
        return { nodeClass, totalNs, instances, share: allNs === 0 ? 0 : totalNs / allNs }
      })
      .sort((a, b) => b.totalNs - a.totalNs),
  }
}

/** The first that matches decides. */
const patterns: readonly (readonly [RegExp, NodeClass])[] = [
  [/^(?:FullyConnected|\w*MatMul\w*|\w*Gemm|Conv(?:olution|Integer)?)$/, 'product'],
  // OpenVINO joins a head's products and softmax into one: a Subgraph with products in it, or an operation of its own.
  [/Attention|^MHA$|^Subgraph$|Softmax/i, 'attention'],
  [/Norm|^MVN$|^RMS$/, 'norm'],
  [
    /^(?:Reorder|Transpose|Reshape|Convert|Cast|Concat|Split|Slice|StridedSlice|Squeeze|Unsqueeze|Shape\w*)$/,
    'layout',
  ],
  [
    /^(?:Add|Sub|Mul\w*|Div|Sqrt|Pow|Abs|Erf|\w*Gelu|\w*Relu|Sigmoid|Tanh|Swish|Eltwise|Select|Where|Gather|RoPE)/,
    'elementwise',
  ],
]

export function classifyNode(operation: string): NodeClass {
  return patterns.find(([pattern]) => pattern.test(operation))?.[1] ?? 'other'
}

function summariseBy(times: readonly NodeTime[], keyOf: (time: NodeTime) => string): NodeSummaryRow[] {
  const first = new Map(times.toReversed().map((time) => [keyOf(time), time]))
  return summariseTimes(times.map((time) => ({ name: keyOf(time), durationNs: time.durationNs }))).map(
    (row) => {
      const { operation, kernel } = first.get(row.name)!
      return { ...row, operation, kernel }
    },
  )
}

function sumTotals(rows: readonly TimeSummaryRow[]): number {
  return rows.reduce((sum, { totalNs }) => sum + totalNs, 0)
}
