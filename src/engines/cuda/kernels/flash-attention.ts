import { EmbedError } from '../../../errors.ts'
import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import type { HeadShape } from './qk-norm-rope.ts'

export interface FlashAttentionOptions extends HeadShape {
  readonly isCausal: boolean
  /** Default: 1 / sqrt(headSize). */
  readonly scale?: number
}

export interface FlashAttentionArguments {
  /** bf16 [tokens, (heads + 2 * kvHeads) * headSize] */
  readonly qkv: DevicePointer
  /** bf16 [tokens, heads * headSize], written */
  readonly output: DevicePointer
  /** i32 [tileCount, 4], as makeAttentionTiles has it */
  readonly tiles: DevicePointer
  readonly tileCount: number
}

/** Queries of a block, and keys that it takes at a time. */
export const attentionTile = 64
const headSizes = [32, 64, 128]

/** @throws {EmbedError} INTERNAL for a head size it has no tiles for */
export function flashAttentionVariant({
  heads,
  kvHeads,
  headSize,
  isCausal,
}: FlashAttentionOptions): KernelVariant {
  if (!headSizes.includes(headSize) || heads % kvHeads !== 0) {
    const reason = `no attention for ${heads} heads on ${kvHeads} of ${headSize} values; the sizes are ${headSizes.join(', ')}`
    throw new EmbedError('INTERNAL', { reason })
  }
  return {
    file: 'flash_attention',
    defines: { HEADS: heads, KV_HEADS: kvHeads, HEAD_SIZE: headSize, CAUSAL: Number(isCausal) },
    minArchitecture: 80,
  }
}

/** Attention within each sequence of a ragged batch. @see arXiv:2307.08691 */
export async function loadFlashAttention(
  loader: KernelLoader,
  options: FlashAttentionOptions,
): Promise<(stream: GpuStream, args: FlashAttentionArguments) => void> {
  const kernel = (await loader.load(flashAttentionVariant(options))).kernel('flash_attention')
  const { heads, headSize, scale = 1 / Math.sqrt(headSize) } = options
  // Queries, and keys and values twice: those in use and those under way.
  const sharedBytes = 5 * attentionTile * headSize * 2
  kernel.allowSharedBytes(sharedBytes)
  const values = new KernelArguments(['pointer', 'pointer', 'pointer', 'f32'])
  return (stream, { qkv, output, tiles, tileCount }) =>
    kernel.launch(
      stream,
      { grid: [tileCount, heads], block: [128], sharedBytes },
      values.set(qkv, output, tiles, scale * Math.LOG2E),
    )
}

/** The work of the blocks: those with the most keys first, since the last to start decides when all are done.
 * @param cumulativeLengths i32 [sequences + 1]
 * @param tileCount of a captured launch; what is left over has length 0. Default: as many as there are
 * @returns i32 [tileCount, 4]: first token of the sequence, its length, first query in it, 0 */
export function makeAttentionTiles(
  cumulativeLengths: Int32Array,
  options: { readonly isCausal: boolean; readonly tileCount?: number },
): Int32Array {
  const tiles: { begin: number; length: number; firstQuery: number; keys: number }[] = []
  for (let i = 0; i + 1 < cumulativeLengths.length; i++) {
    const begin = cumulativeLengths[i]!
    const length = cumulativeLengths[i + 1]! - begin
    for (let firstQuery = 0; firstQuery < length; firstQuery += attentionTile) {
      const keys = options.isCausal ? Math.min(length, firstQuery + attentionTile) : length
      tiles.push({ begin, length, firstQuery, keys })
    }
  }
  const { tileCount = tiles.length } = options
  if (tiles.length > tileCount) {
    throw new EmbedError('INTERNAL', { reason: `${tiles.length} attention tiles, room for ${tileCount}` })
  }
  const packed = new Int32Array(tileCount * 4)
  tiles.sort((a, b) => b.keys - a.keys)
  for (const [i, { begin, length, firstQuery }] of tiles.entries())
    packed.set([begin, length, firstQuery], i * 4)
  return packed
}
