import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { type ArgumentType, KernelArguments } from '../../../hardware/gpu/kernel-arguments.ts'
import type { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader, KernelVariant } from './kernel-loader.ts'
import { noPointer, type RowOutput, type RowShape, rowVariant, threadsOfRow } from './rows.ts'

export interface EmbeddingOptions extends RowShape {
  /** BERT: positions and type are added, then LayerNorm; else the rows as they are. */
  readonly layernorm?: { readonly epsilon: number }
}

export interface EmbeddingArguments extends Partial<RowOutput> {
  readonly rows: number
  /** i32 [rows] */
  readonly ids: DevicePointer
  /** bf16 [vocabulary, rowSize] */
  readonly word: DevicePointer
  /** bf16 [rows, rowSize], written */
  readonly hidden: DevicePointer
  readonly layernorm?: {
    /** i32 [rows] */
    readonly positions: DevicePointer
    /** bf16 [positions, rowSize] */
    readonly position: DevicePointer
    /** bf16 [rowSize]: the type of all tokens */
    readonly type: DevicePointer
    /** bf16 [rowSize] */
    readonly gamma: DevicePointer
    /** bf16 [rowSize] */
    readonly beta: DevicePointer
  }
}

export function embeddingVariant(options: EmbeddingOptions): KernelVariant {
  return rowVariant('embedding', options, { WITH_LAYERNORM: Number(options.layernorm !== undefined) })
}

/** Gathers the rows of a table that lies in the GPU's memory, or in mapped pinned memory, which it reads over PCIe. */
export async function loadEmbedding(
  loader: KernelLoader,
  options: EmbeddingOptions,
): Promise<(stream: GpuStream, args: EmbeddingArguments) => void> {
  const kernel = (await loader.load(embeddingVariant(options))).kernel('embedding')
  const pointers = Array.from({ length: 10 }, (): ArgumentType => 'pointer')
  const values = new KernelArguments([...pointers, 'f32'])
  const block = [threadsOfRow(options.rowSize)] as const
  const epsilon = options.layernorm?.epsilon ?? 0
  return (stream, { rows, ids, word, hidden, layernorm, output = noPointer, scale = noPointer }) => {
    const {
      positions = noPointer,
      position = noPointer,
      type = noPointer,
      gamma = noPointer,
      beta = noPointer,
    } = layernorm ?? {}
    kernel.launch(
      stream,
      { grid: [rows], block },
      values.set(ids, positions, word, position, type, gamma, beta, hidden, output, scale, epsilon),
    )
  }
}
