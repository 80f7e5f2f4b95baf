import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer } from './rows.ts'

/** Of the fused matrix of queries, keys and values: [tokens, (heads + 2 * kvHeads) * headSize]. */
export interface HeadShape {
  readonly heads: number
  readonly kvHeads: number
  readonly headSize: number
}

export interface QkNormRopeOptions extends HeadShape {
  /** RMSNorm over each head first, as Qwen3 has it. */
  readonly norm?: { readonly epsilon: number }
  /** Queries stay as they are. */
  readonly keysOnly?: boolean
}

export interface QkNormRopeArguments {
  readonly rows: number
  /** bf16, rotated in place */
  readonly qkv: DevicePointer
  /** i32 [rows] */
  readonly positions: DevicePointer
  /** f32 [positions, headSize / 2, 2], as makeRotation has it */
  readonly rotation: DevicePointer
  /** bf16 [headSize] */
  readonly queryGamma?: DevicePointer
  /** bf16 [headSize] */
  readonly keyGamma?: DevicePointer
}

const warps = 4

export function qkNormRopeVariant(options: QkNormRopeOptions): KernelVariant {
  const { heads, kvHeads, headSize, norm, keysOnly = false } = options
  return {
    file: 'qk_norm_rope',
    defines: {
      HEADS: heads,
      KV_HEADS: kvHeads,
      HEAD_SIZE: headSize,
      WARPS: warps,
      WITH_NORM: Number(norm !== undefined),
      FIRST_HEAD: keysOnly ? heads : 0,
    },
    minArchitecture: 80,
  }
}

/** Query and key heads of the fused matrix: normalised, then rotated by position. @see arXiv:2104.09864 */
export async function loadQkNormRope(
  loader: KernelLoader,
  options: QkNormRopeOptions,
): Promise<(stream: GpuStream, args: QkNormRopeArguments) => void> {
  const kernel = (await loader.load(qkNormRopeVariant(options))).kernel('qk_norm_rope')
  const values = new KernelArguments(['pointer', 'pointer', 'pointer', 'pointer', 'pointer', 'f32', 'i32'])
  const headsOfRow = (options.keysOnly === true ? 0 : options.heads) + options.kvHeads
  const epsilon = options.norm?.epsilon ?? 0
  return (stream, { rows, qkv, positions, rotation, queryGamma = noPointer, keyGamma = noPointer }) =>
    kernel.launch(
      stream,
      { grid: [Math.ceil((rows * headsOfRow) / warps)], block: [warps * 32] },
      values.set(qkv, positions, rotation, queryGamma, keyGamma, epsilon, rows),
    )
}

/** Cosine and sine of position * theta^(-2i / headSize). @returns f32 [positions, headSize / 2, 2] */
export function makeRotation(positions: number, headSize: number, theta: number): Float32Array {
  const table = new Float32Array(positions * headSize)
  for (let i = 0; i < headSize / 2; i++) {
    const frequency = theta ** ((-2 * i) / headSize)
    for (let position = 0; position < positions; position++) {
      table[position * headSize + 2 * i] = Math.cos(position * frequency)
      table[position * headSize + 2 * i + 1] = Math.sin(position * frequency)
    }
  }
  return table
}
