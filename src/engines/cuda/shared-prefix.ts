/** A prefix that all sequences of a pass begin with, as the instruction of queries is, is computed once: causal tokens do not see
 * what comes after them. Products and norms take each token once; for the attention the keys and values of the prefix are
 * copied before each sequence's own. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import { makeAttentionTiles } from './kernels/flash-attention.ts'
import { loadGatherRows } from './kernels/gather-rows.ts'
import type { KernelLoader } from './kernels/kernel-loader.ts'
import { roundRows } from './linear-layers.ts'

/** What the CPU knows of a batch whose prefix is computed once. The first sequence has the prefix, the others what is their own. */
export interface SharedPrefixPlan {
  readonly ids: Int32Array
  /** i32 [tokens]: place of each in its sequence */
  readonly positions: Int32Array
  /** i32 [sequences + 1] */
  readonly cumulativeLengths: Int32Array
  /** The same for the attention, where each sequence has the prefix. */
  readonly whole: {
    /** As products count them. */
    readonly rows: number
    readonly cumulativeLengths: Int32Array
    /** i32 [rows]: the token that each row is a copy of */
    readonly tokens: Int32Array
    /** i32 [rows] */
    readonly positions: Int32Array
    /** i32 [tokens]: the row that has what the attention made of each token */
    readonly rowOfToken: Int32Array
  }
}

/** Copying the keys and values takes time too: what must be saved, in rows of products and as a share of them. */
const fewestSavedRows = 256
const smallestSavedShare = 0.2

/** @param maxRows room for both, the tokens and the rows of the attention
 * @returns undefined when it would save too little */
export function planSharedPrefix(
  ids: Int32Array,
  cumulativeLengths: Int32Array,
  maxRows: number,
): SharedPrefixPlan | undefined {
  const sequences = cumulativeLengths.length - 1
  const rows = roundRows(ids.length)
  if (rows <= fewestSavedRows || sequences < 2) return undefined
  const prefix = commonPrefix(ids, cumulativeLengths)
  const tokenCount = ids.length - (sequences - 1) * prefix
  const savedRows = rows - roundRows(tokenCount)
  const isWorthIt = savedRows >= Math.max(fewestSavedRows, smallestSavedShare * rows)
  if (!isWorthIt || rows + roundRows(tokenCount) > maxRows) return undefined

  const plan = {
    ids: new Int32Array(tokenCount),
    positions: new Int32Array(tokenCount),
    cumulativeLengths: new Int32Array(sequences + 1),
    whole: {
      rows,
      cumulativeLengths,
      tokens: new Int32Array(rows),
      positions: new Int32Array(rows),
      rowOfToken: new Int32Array(tokenCount),
    },
  }
  const { whole } = plan
  let token = 0
  for (let i = 0; i < sequences; i++) {
    const begin = cumulativeLengths[i]!
    const length = cumulativeLengths[i + 1]! - begin
    for (let position = 0; position < length; position++) {
      const row = begin + position
      whole.positions[row] = position
      // The first tokens of all are those of the first sequence.
      whole.tokens[row] = i > 0 && position < prefix ? position : token
      if (i > 0 && position < prefix) continue
      plan.ids[token] = ids[row]!
      plan.positions[token] = position
      whole.rowOfToken[token] = row
      token++
    }
    plan.cumulativeLengths[i + 1] = token
  }
  return plan
}

/** Tokens that all begin with; each keeps one of its own. */
function commonPrefix(ids: Int32Array, cumulativeLengths: Int32Array): number {
  let prefix = cumulativeLengths[1]! - 1
  for (let i = 1; i + 1 < cumulativeLengths.length && prefix > 0; i++) {
    const begin = cumulativeLengths[i]!
    prefix = Math.min(prefix, cumulativeLengths[i + 1]! - begin - 1)
    let same = 0
    while (same < prefix && ids[begin + same] === ids[same]) same++
    prefix = same
  }
  return prefix
}

/** As makeAttentionTiles, without the queries of the prefix in all sequences but the first. */
export function makeSharedTiles(
  { whole, positions, cumulativeLengths }: SharedPrefixPlan,
  options: { readonly queries: number; readonly tileCount: number },
): Int32Array {
  const { queries, tileCount } = options
  const prefix = cumulativeLengths.length > 2 ? positions[cumulativeLengths[1]!]! : 0
  const all = makeAttentionTiles(whole.cumulativeLengths, { isCausal: true, queries })
  const tiles = new Int32Array(tileCount * 4)
  let count = 0
  for (let at = 0; at < all.length; at += 4) {
    const [begin, , firstQuery] = all.subarray(at, at + 3) as unknown as [number, number, number]
    if (begin > 0 && firstQuery + queries <= prefix) continue
    tiles.set(all.subarray(at, at + 4), count++ * 4)
  }
  return tiles
}

/** SharedPrefixPlan on the GPU: what the attention needs. */
export interface SharedBatch {
  readonly rows: number
  readonly tokens: DevicePointer
  readonly positions: DevicePointer
  readonly rowOfToken: DevicePointer
}

export interface SharedPrefix {
  /** Keys and values with the prefix before each sequence: `to` [shared.rows] of `from` [tokens]. */
  repeat(stream: GpuStream, shared: SharedBatch, from: DevicePointer, to: DevicePointer): void
  /** What the attention made of each token, once: `to` [tokens] of `from` [shared.rows]. */
  collect(
    stream: GpuStream,
    shared: SharedBatch,
    args: { readonly tokens: number; readonly from: DevicePointer; readonly to: DevicePointer },
  ): void
}

/** @param options bytes of a row, of queries, keys and values, and of what the attention makes of them */
export async function loadSharedPrefix(
  loader: KernelLoader,
  options: { readonly qkvBytes: number; readonly attendedBytes: number },
): Promise<SharedPrefix> {
  const repeat = await loadGatherRows(loader, { firstBytes: options.qkvBytes })
  const collect = await loadGatherRows(loader, { firstBytes: options.attendedBytes })
  return {
    repeat: (stream, shared, first, firstTo) =>
      repeat(stream, { count: shared.rows, rows: shared.tokens, first, firstTo }),
    collect: (stream, shared, { tokens, from, to }) =>
      collect(stream, { count: tokens, rows: shared.rowOfToken, first: from, firstTo: to }),
  }
}
