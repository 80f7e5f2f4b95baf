/** The last layer is done for the pooled tokens only: from its attention on nobody reads the others. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { Pooling } from '../../model/spec.ts'
import type { Activations, ForwardContext, GpuBatch } from './forward-pass.ts'
import { loadGatherRows } from './kernels/gather-rows.ts'
import { roundRows } from './linear-layers.ts'

/** Of a sequence; undefined: all are pooled. */
export type PooledToken = 'first' | 'last' | undefined

export function pooledTokenOf(pooling: Pooling): PooledToken {
  return pooling === 'last-token' ? 'last' : pooling === 'cls' ? 'first' : undefined
}

/** What the CPU knows of the pooled tokens of a batch. */
export interface PooledPlan {
  /** i32 [sequences]: each one's row in the batch */
  readonly rows: Int32Array
  /** i32 [sequences, 4], as makeAttentionTiles has them: those with the pooled token among their queries */
  readonly tiles: Int32Array
  /** i32 [sequences + 1]: each sequence is one row now */
  readonly cumulativeLengths: Int32Array
}

/** @param options.queries of a block of the attention
 * @param options.whole cumulative lengths as the attention has them, where those are others */
export function planPooled(
  cumulativeLengths: Int32Array,
  token: 'first' | 'last',
  options: { readonly queries: number; readonly whole?: Int32Array },
): PooledPlan {
  const { queries, whole = cumulativeLengths } = options
  const sequences = cumulativeLengths.length - 1
  const rows = new Int32Array(sequences)
  const tiles = new Int32Array(sequences * 4)
  for (let i = 0; i < sequences; i++) {
    const begin = whole[i]!
    const length = whole[i + 1]! - begin
    const query = token === 'first' ? 0 : length - 1
    rows[i] = token === 'first' ? cumulativeLengths[i]! : cumulativeLengths[i + 1]! - 1
    tiles.set([begin, length, query - (query % queries)], i * 4)
  }
  return { rows, tiles, cumulativeLengths: Int32Array.from({ length: sequences + 1 }, (_, i) => i) }
}

/** Rows of the batch that the last layer goes on with. */
export interface RemainingRows {
  readonly rows: number
  /** bf16 [rows, hiddenSize] */
  readonly hidden: DevicePointer
  /** What the attention wrote: [rows, attentionBytes] */
  readonly attended: DevicePointer
}

export interface PooledRows {
  /** How many there are, as products count them; undefined where leaving rows out saves nothing. */
  countOf(batch: Pick<GpuBatch, 'rows' | 'sequences'>): number | undefined
  gather(stream: GpuStream, batch: GpuBatch, from: RemainingRows): RemainingRows
}

const countOf: PooledRows['countOf'] = ({ rows, sequences }) => {
  const pooled = roundRows(sequences)
  return pooled < rows ? pooled : undefined
}

/** @param options.room where the gathered rows of the attention may lie: apart from what it wrote
 * @returns undefined when all tokens are pooled */
export async function loadPooledRows(
  context: ForwardContext,
  activations: Activations,
  options: {
    readonly hiddenSize: number
    readonly attentionBytes: number
    readonly room: DevicePointer
  },
): Promise<PooledRows | undefined> {
  const { pooling, loader, maxPassSequences, maxPassTokens } = context
  if (pooledTokenOf(pooling) === undefined) return undefined
  const { hiddenSize, attentionBytes, room } = options
  const gather = await loadGatherRows(loader, { firstBytes: hiddenSize * 2, secondBytes: attentionBytes })
  const most = Math.min(maxPassSequences, maxPassTokens)
  const hidden = activations.buffer('pooled', hiddenSize, most)
  return {
    countOf,
    gather: (stream, batch, from) => {
      gather(stream, {
        count: batch.sequences,
        rows: batch.pooled!.rows,
        first: from.hidden,
        firstTo: hidden,
        second: from.attended,
        secondTo: room,
      })
      return { rows: countOf(batch)!, hidden, attended: room }
    },
  }
}
