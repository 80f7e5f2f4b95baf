/** A model's weights on the GPU, in the form that its products take; quantised there. */
import { EmbedError } from '../../errors.ts'
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import type { MatmulPrecision } from '../../hardware/gpu/matmul.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { StoredTensor } from '../../model/onnx/model-weights.ts'
import type { KernelLoader } from './kernels/kernel-loader.ts'
import { loadQuantizeRows, type QuantizeSource } from './kernels/quantize-rows.ts'
import type { StagedUpload } from './staged-upload.ts'
import type { CachedWeights } from './weight-cache.ts'

/** y = x Wᵀ + b */
export interface LinearWeights {
  /** bf16 or E4M3 [columns, inner] */
  readonly values: DevicePointer
  /** f32 [1] or [columns]; undefined for bf16 */
  readonly scale: DevicePointer | undefined
  /** bf16 [columns] */
  readonly bias: DevicePointer | undefined
  readonly columns: number
  readonly inner: number
}

const sources: Readonly<Record<StoredTensor['type'], { name: QuantizeSource; bytes: number }>> = {
  BF16: { name: 'bf16', bytes: 2 },
  F16: { name: 'fp16', bytes: 2 },
  F32: { name: 'fp32', bytes: 4 },
}

export class GpuWeights {
  /** Of all that was loaded. */
  bytes = 0
  /** What was loaded from the model's files, in order: what the cache is to hold. */
  readonly pieces: DeviceBuffer[] = []
  readonly #loader: KernelLoader
  readonly #stream: GpuStream
  readonly #precision: MatmulPrecision
  readonly #cached: CachedWeights | undefined
  readonly #staging: StagedUpload

  /** @param options.cached taken instead of what the model's files hold, in the same order
   * @param options.staging borrowed for as long as something is loaded */
  constructor(
    loader: KernelLoader,
    stream: GpuStream,
    options: {
      readonly precision: MatmulPrecision
      readonly cached: CachedWeights | undefined
      readonly staging: StagedUpload
    },
  ) {
    this.#staging = options.staging
    this.#loader = loader
    this.#stream = stream
    this.#precision = options.precision
    this.#cached = options.cached
  }

  /** Several matrices become one, below each other: a product for all that read the same input.
   * @throws {EmbedError} GPU_OUT_OF_MEMORY, MODEL_FILE_CORRUPT, what the kernels throw */
  async linear(
    matrices: readonly StoredTensor[],
    biases: readonly StoredTensor[] = [],
  ): Promise<LinearWeights> {
    const inner = matrices[0]!.shape[1]!
    const columns = matrices.reduce((sum, { shape }) => sum + shape[0]!, 0)
    const precision = this.#precision
    const values = this.#place(columns * inner * (precision === 'bf16' ? 2 : 1))
    const scale = precision === 'bf16' ? undefined : this.#place(precision === 'fp8' ? 4 : columns * 4)
    await this.#convert(matrices, { rowSize: inner, output: precision, values, scale })
    const bias = biases.length === 0 ? undefined : await this.vector(biases)
    return { values, scale, bias, columns, inner }
  }

  /** bf16, several laid end to end. */
  async vector(tensors: readonly StoredTensor[]): Promise<DevicePointer> {
    const count = tensors.reduce((sum, { shape }) => sum + countOf(shape), 0)
    const values = this.#place(count * 2)
    const rowSize = tensors.reduce((divisor, { shape }) => greatestDivisor(divisor, shape.at(-1)!), 0)
    await this.#convert(tensors, { rowSize, output: 'bf16', values, scale: undefined })
    return values
  }

  /** f32 or zeros, as given. */
  async upload(values: Float32Array | Uint16Array): Promise<DevicePointer> {
    const pointer = this.#allocate(values.byteLength).handle
    const cuda = this.#loader.gpu.makeCurrent()
    cuda.cuMemcpyHtoDAsync_v2(pointer, values, values.byteLength, this.#stream.handle)
    await this.#stream.idle()
    return pointer
  }

  /** From the type they are stored in, read as rows of `rowSize`, to the output's. */
  async #convert(
    tensors: readonly StoredTensor[],
    to: {
      readonly rowSize: number
      readonly output: MatmulPrecision
      readonly values: DevicePointer
      readonly scale: DevicePointer | undefined
    },
  ): Promise<void> {
    if (this.#cached !== undefined) return
    const { type, file } = tensors[0]!
    if (tensors.some((tensor) => tensor.type !== type)) {
      throw new EmbedError('MODEL_CONFIG_INVALID', {
        file,
        reason: 'weights that belong together differ in type',
      })
    }
    const { name: source, bytes: width } = sources[type]
    const rows = tensors.reduce((sum, { shape }) => sum + countOf(shape), 0) / to.rowSize
    const isCopied = source === to.output
    using staged = isCopied
      ? undefined
      : new DeviceBuffer(this.#loader.gpu, 'weights as stored', rows * to.rowSize * width)
    const input = staged?.handle ?? to.values
    await this.#staging.copy(input, tensors)
    if (isCopied) return
    const { quantize, findScale } = await loadQuantizeRows(this.#loader, { ...to, source })
    const { scale } = to
    if (to.output === 'fp8') {
      using amax = new DeviceBuffer(this.#loader.gpu, 'amax', 4)
      findScale(this.#stream, { rows, input, amax: amax.handle, scale: scale! })
      await this.#stream.idle()
    }
    quantize(this.#stream, { rows, input, output: to.values, ...(scale === undefined ? {} : { scale }) })
    await this.#stream.idle()
  }

  /** For what comes from the model's files, or from the cache: it is there already then. */
  #place(bytes: number): DevicePointer {
    if (this.#cached === undefined) {
      const buffer = this.#allocate(bytes)
      this.pieces.push(buffer)
      return buffer.handle
    }
    this.bytes += bytes
    return this.#cached.take(bytes)
  }

  #allocate(bytes: number): DeviceBuffer {
    this.bytes += bytes
    return new DeviceBuffer(this.#loader.gpu, 'weights', bytes)
  }
}

function countOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1)
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b)
}
