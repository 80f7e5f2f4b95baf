import { EmbedError } from '../../../errors.ts'
import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import type { HeadShape } from './qk-norm-rope.ts'
import { noPointer } from './rows.ts'

export interface FlashAttentionOptions extends HeadShape {
  readonly isCausal: boolean
  /** Default: 1 / sqrt(headSize). */
  readonly scale?: number
  /** Queries get RMSNorm and rotation on their way in; keys come with both. */
  readonly rope?: { readonly epsilon: number }
  /** fp8: E4M3 by a scale that is given. Default bf16. */
  readonly output?: 'bf16' | 'fp8'
  /** Default: portableTuning. */
  readonly tuning?: AttentionTuning
}

/** What the compiler is told of the blocks; the results are the same to rounding. */
export interface AttentionTuning {
  /** Of a block, each with 16 rows: 4 or 8. */
  readonly warps: number
  /** Of a tile: 64 or 128. */
  readonly keys: number
  /** Of a multiprocessor at once; registers are spilled for it. */
  readonly minBlocks: number
  /** Heads that share a block's keys and values, at most. */
  readonly maxGroup: number
}

export interface FlashAttentionArguments {
  /** bf16 [tokens, (heads + 2 * kvHeads) * headSize] */
  readonly qkv: DevicePointer
  /** bf16 or E4M3 [tokens, heads * headSize], written */
  readonly output: DevicePointer
  /** f32 [1]; with E4M3 */
  readonly scale?: DevicePointer
  /** i32 [tileCount, 4], as makeAttentionTiles has it */
  readonly tiles: DevicePointer
  readonly tileCount: number
  /** i32 [tokens]; with rope, as the two below */
  readonly positions?: DevicePointer
  /** f32 [positions, headSize / 2, 2], as makeRotation has it */
  readonly rotation?: DevicePointer
  /** bf16 [headSize] */
  readonly queryGamma?: DevicePointer
}

const headSizes = [32, 64, 128]

/** For every chip from sm_80 on. */
export const portableTuning: AttentionTuning = {
  warps: 4,
  keys: 64,
  minBlocks: 2,
  maxGroup: 4,
}

/** Heads of a block: as many of those on the same keys as there are warps for. */
function groupOf({ heads, kvHeads }: HeadShape, { maxGroup, warps }: AttentionTuning): number {
  const shared = heads / kvHeads
  return [4, 2].find((group) => shared % group === 0 && group <= Math.min(maxGroup, warps)) ?? 1
}

/** @throws {EmbedError} INTERNAL for a head size it has no tiles for */
export function flashAttentionVariant(options: FlashAttentionOptions): KernelVariant {
  const { heads, kvHeads, headSize, isCausal, rope, output = 'bf16', tuning = portableTuning } = options
  if (!headSizes.includes(headSize) || heads % kvHeads !== 0) {
    const reason = `no attention for ${heads} heads on ${kvHeads} of ${headSize} values; the sizes are ${headSizes.join(', ')}`
    throw new EmbedError('INTERNAL', { reason })
  }
  return {
    file: 'flash_attention',
    defines: {
      HEADS: heads,
      KV_HEADS: kvHeads,
      HEAD_SIZE: headSize,
      CAUSAL: Number(isCausal),
      WITH_ROPE: Number(rope !== undefined),
      E4M3: Number(output === 'fp8'),
      GROUP: groupOf(options, tuning),
      WARPS: tuning.warps,
      KEYS: tuning.keys,
      MIN_BLOCKS: tuning.minBlocks,
    },
    minArchitecture: output === 'fp8' ? 89 : 80,
  }
}

export interface FlashAttention {
  /** Of a block: what makeAttentionTiles counts in. */
  readonly queries: number
  readonly launch: (stream: GpuStream, args: FlashAttentionArguments) => void
}

/** Attention within each sequence of a ragged batch. @see arXiv:2307.08691 */
export async function loadFlashAttention(
  loader: KernelLoader,
  options: FlashAttentionOptions,
): Promise<FlashAttention> {
  const { heads, headSize, rope, scale = 1 / Math.sqrt(headSize) } = options
  const { tuning = portableTuning } = options
  const kernel = (await loader.load(flashAttentionVariant(options))).kernel('flash_attention')
  const group = groupOf(options, tuning)
  // Keys and values: those in use and those under way.
  const sharedBytes = 2 * 2 * tuning.keys * headSize * 2
  kernel.allowSharedBytes(sharedBytes)
  const values = new KernelArguments([
    ...(['pointer', 'pointer', 'pointer', 'f32'] as const),
    ...(['pointer', 'pointer', 'pointer', 'pointer', 'f32'] as const),
  ])
  const scaleLog2 = scale * Math.LOG2E
  const block = [tuning.warps * 32] as const
  const launch: FlashAttention['launch'] = (stream, args) => {
    const { qkv, output, tiles, tileCount, scale: outputScale = noPointer } = args
    const { positions = noPointer, rotation = noPointer, queryGamma = noPointer } = args
    kernel.launch(
      stream,
      { grid: [tileCount, heads / group], block, sharedBytes },
      values.set(
        qkv,
        output,
        tiles,
        scaleLog2,
        outputScale,
        positions,
        rotation,
        queryGamma,
        rope?.epsilon ?? 0,
      ),
    )
  }
  return { queries: (tuning.warps * 16) / group, launch }
}

/** The work of the blocks: those with the most keys first, since the last to start decides when all are done.
 * @param cumulativeLengths i32 [sequences + 1]
 * @param options.queries of a block, as FlashAttention has it
 * @param options.tileCount of a captured launch; what is left over has length 0. Default: as many as there are
 * @returns i32 [tileCount, 4]: first token of the sequence, its length, first query in it, 0 */
export function makeAttentionTiles(
  cumulativeLengths: Int32Array,
  options: { readonly isCausal: boolean; readonly queries: number; readonly tileCount?: number },
): Int32Array {
  const { isCausal, queries } = options
  const tiles: { begin: number; length: number; firstQuery: number; keys: number }[] = []
  for (let i = 0; i + 1 < cumulativeLengths.length; i++) {
    const begin = cumulativeLengths[i]!
    const length = cumulativeLengths[i + 1]! - begin
    for (let firstQuery = 0; firstQuery < length; firstQuery += queries) {
      const keys = isCausal ? Math.min(length, firstQuery + queries) : length
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
