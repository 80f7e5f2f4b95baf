/** What the engine needs of a model's layers, whatever the model. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import type { MatmulPrecision } from '../../hardware/gpu/matmul.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import { type ActivationScales, inputScale } from '../../model/activation-scales.ts'
import type { ModelWeights } from '../../model/onnx/model-weights.ts'
import type { Pooling } from '../../model/spec.ts'
import { EmbedError } from '../../errors.ts'
import type { GpuWeights, LinearWeights } from './gpu-weights.ts'
import type { KernelLoader } from './kernels/kernel-loader.ts'
import type { PooledToken } from './pooled-rows.ts'
import type { SharedBatch } from './shared-prefix.ts'
import { type LinearCall, type LinearInput, type LinearLayers, roundRows } from './linear-layers.ts'

/** A ragged batch on the GPU. */
export interface GpuBatch {
  /** Tokens, rounded up as roundRows has it: batches of one shape are launched alike. */
  readonly rows: number
  readonly sequences: number
  /** i32 [rows] */
  readonly ids: DevicePointer
  /** i32 [rows] */
  readonly positions: DevicePointer
  /** i32 [sequences + 1] */
  readonly cumulativeLengths: DevicePointer
  /** i32 [tileCount, 4] */
  readonly tiles: DevicePointer
  readonly tileCount: number
  /** Set where tokens that all sequences begin with are there once: the attention has other rows then, and tiles of those. */
  readonly shared: SharedBatch | undefined
  /** Of the tokens that are pooled; undefined where all are. */
  readonly pooled: PooledBatch | undefined
  /** f32 [sequences, hiddenSize], written */
  readonly output: DevicePointer
  readonly normalize: boolean
}

/** PooledPlan on the GPU. */
export interface PooledBatch {
  readonly rows: DevicePointer
  readonly tiles: DevicePointer
  readonly cumulativeLengths: DevicePointer
}

export interface ForwardPass {
  readonly isCausal: boolean
  /** Queries of a block of its attention. */
  readonly attentionQueries: number
  /** Of the buffers between the layers. */
  readonly activationBytes: number
  /** Of a sequence's first token. */
  readonly firstPosition: number
  readonly pooledToken: PooledToken
  /** Whether it takes a batch whose prefix is there once. */
  readonly sharesPrefix: boolean
  /** Enqueues every layer in order, and the pooling. */
  enqueue(stream: GpuStream, batch: GpuBatch): void
  /** The products of a batch: one of each shape, to time algorithms with. */
  products(batch: Pick<GpuBatch, 'rows' | 'sequences'>): readonly LinearProduct[]
}

export interface LinearProduct {
  readonly weights: LinearWeights
  readonly call: LinearCall
}

export interface ForwardContext {
  readonly loader: KernelLoader
  readonly stream: GpuStream
  readonly linear: LinearLayers
  readonly gpuWeights: GpuWeights
  readonly weights: ModelWeights
  readonly precision: MatmulPrecision
  /** Largest inputs of the layers; needed for 'fp8'. */
  readonly scales: ActivationScales | undefined
  readonly pooling: Pooling
  /** Longest sequence. */
  readonly maxTokens: number
  /** Of all sequences of a pass together. */
  readonly maxPassTokens: number
  readonly maxPassSequences: number
  /** Rows that a decoder's products take at a time, a multiple of 128: what lies between them needs no more room. */
  readonly chunkRows: number
  /** Whether products of few rows are our own kernel's, where it takes them. */
  readonly fewRowsProducts: boolean
}

/** The buffers between the layers, shared by all of them. */
export class Activations {
  bytes = 0
  readonly #context: ForwardContext
  readonly #rowScales: DevicePointer | undefined
  readonly #quantised: DevicePointer | undefined

  /** @param input.largestInner the longest row that goes into a product   @param input.rows of a product at most */
  constructor(context: ForwardContext, input: { readonly largestInner: number; readonly rows: number }) {
    this.#context = context
    const { precision } = context
    const rows = roundRows(input.rows)
    this.#quantised = precision === 'bf16' ? undefined : this.bytesOf('quantised', rows * input.largestInner)
    this.#rowScales = precision === 'fp8-rowwise' ? this.bytesOf('row scales', rows * 4) : undefined
  }

  /** bf16 [rows, rowSize]; default: as many rows as a pass has */
  buffer(name: string, rowSize: number, rows = this.#context.maxPassTokens): DevicePointer {
    return this.bytesOf(name, roundRows(rows) * rowSize * 2)
  }

  bytesOf(name: string, bytes: number): DevicePointer {
    this.bytes += bytes
    return new DeviceBuffer(this.#context.loader.gpu, name, bytes).handle
  }

  /** Where a kernel writes what the linear layer of that name reads next: one buffer for all but bf16, which has its own.
   * @param layer as calibration calls it   @throws {EmbedError} SCALES_INVALID */
  async inputOf(layer: string, bf16: DevicePointer): Promise<LinearInput> {
    const { precision, scales, gpuWeights } = this.#context
    if (precision === 'bf16') return { values: bf16, scale: undefined }
    if (precision === 'fp8-rowwise') return { values: this.#quantised!, scale: this.#rowScales }
    if (scales === undefined) {
      const reason =
        "fp8 needs the largest inputs of the layers; run 'calibrate', or take --precision fp8-rowwise"
      throw new EmbedError('SCALES_INVALID', { source: 'the cuda engine', reason })
    }
    const scale = await gpuWeights.upload(Float32Array.of(inputScale(scales, layer)))
    return { values: this.#quantised!, scale }
  }
}

/** The two fields that kernels call output and scale. */
export function toRowOutput({ values, scale }: LinearInput): {
  output: DevicePointer
  scale?: DevicePointer
} {
  return scale === undefined ? { output: values } : { output: values, scale }
}
