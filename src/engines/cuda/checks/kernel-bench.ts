/** What a check of a kernel is given: buffers on the GPU, a comparison with the oracle, and a clock. */
import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import { DeviceBuffer } from '../../../hardware/gpu/device-buffer.ts'
import { GpuEvent } from '../../../hardware/gpu/event.ts'
import { GpuStream } from '../../../hardware/gpu/stream.ts'
import type { KernelLoader } from '../kernels/kernel-loader.ts'

/** A kernel, an input and the oracle's answer. */
export interface KernelCheck {
  readonly name: string
  /** Small: in emulation too. Real: the shapes of Qwen3-Embedding-4B, to be timed. */
  readonly size: 'small' | 'real'
  readonly minArchitecture: number
  run(bench: KernelBench): Promise<void>
}

export interface Comparison {
  readonly what: string
  readonly count: number
  readonly nanCount: number
  /** Of |actual - expected| / (absolute tolerance + |expected| * relative tolerance); above 1 it fails. */
  readonly worst: number
  readonly at: number
  readonly actual: number
  readonly expected: number
}

export interface Timing {
  readonly medianUs: number
  readonly gbPerSecond: number
  readonly tflops: number
  /** Of the products that it computes. */
  readonly precision: 'bf16' | 'fp8'
}

export interface Tolerance {
  readonly absolute: number
  readonly relative: number
}

/** Values of 8 bits of mantissa, from sums in f32. */
export const bf16Tolerance: Tolerance = { absolute: 1e-3, relative: 2 ** -7 }

type Values = Uint8Array | Uint16Array | Int32Array | Float32Array

export class KernelBench implements Disposable {
  readonly loader: KernelLoader
  readonly stream: GpuStream
  readonly comparisons: Comparison[] = []
  timing: Timing | undefined
  readonly #rounds: number
  readonly #buffers: DeviceBuffer[] = []

  /** @param options.rounds timings of a kernel; 0: it is only checked */
  constructor(loader: KernelLoader, options: { readonly rounds: number }) {
    this.loader = loader
    this.stream = new GpuStream(loader.gpu, 'kernel check')
    this.#rounds = options.rounds
  }

  /** A buffer with these values. */
  upload(values: Values): DevicePointer {
    const pointer = this.output(values.byteLength)
    this.loader.gpu.makeCurrent().cuMemcpyHtoDAsync_v2(pointer, values, values.byteLength, this.stream.handle)
    return pointer
  }

  /** A buffer of NaN in every type, so that what is not written is seen. */
  output(bytes: number): DevicePointer {
    const buffer = new DeviceBuffer(this.loader.gpu, 'kernel check', bytes)
    this.#buffers.push(buffer)
    this.stream.setBytes(buffer, 0xff)
    return buffer.handle
  }

  /** Fills `into` with what is at `pointer`, once all work is done. */
  async download<Into extends Values>(pointer: DevicePointer, into: Into): Promise<Into> {
    await this.stream.idle()
    const cuda = this.loader.gpu.makeCurrent()
    cuda.cuMemcpyDtoHAsync_v2(into, pointer, into.byteLength, this.stream.handle)
    await this.stream.idle()
    return into
  }

  /** Notes how far `actual` is from what the oracle says of its first values. */
  compare(
    what: string,
    actual: ArrayLike<number>,
    expected: ArrayLike<number>,
    tolerance: Tolerance | ((index: number) => Tolerance),
  ): void {
    let [worst, at, nanCount] = [0, 0, 0]
    for (let i = 0; i < expected.length; i++) {
      const { absolute, relative } = typeof tolerance === 'function' ? tolerance(i) : tolerance
      const error = Math.abs(actual[i]! - expected[i]!) / (absolute + Math.abs(expected[i]!) * relative)
      if (Number.isNaN(error)) nanCount++
      else if (error > worst) [worst, at] = [error, i]
    }
    const [given, wanted] = [actual[at]!, expected[at]!]
    this.comparisons.push({
      what,
      count: expected.length,
      nanCount,
      worst,
      at,
      actual: given,
      expected: wanted,
    })
  }

  /** Times the kernel with nothing of its operands in the L2 cache. After the comparison: it may run in place.
   * @param cost what must be moved and computed, whatever the kernel does */
  async measure(
    run: () => void,
    cost: { readonly bytes: number; readonly flops?: number; readonly precision?: Timing['precision'] },
  ): Promise<void> {
    if (this.#rounds === 0) return
    const { gpu } = this.loader
    using flush = new DeviceBuffer(gpu, 'L2 flush', 2 * gpu.device.l2CacheBytes)
    using start = new GpuEvent(gpu, { timing: true })
    using end = new GpuEvent(gpu, { timing: true })
    const timesUs: number[] = []
    for (let i = -3; i < this.#rounds; i++) {
      this.stream.setBytes(flush, i & 0xff)
      start.record(this.stream)
      run()
      end.record(this.stream)
      await end.done()
      if (i >= 0) timesUs.push(end.elapsedMsSince(start) * 1000)
    }
    const medianUs = timesUs.sort((a, b) => a - b)[timesUs.length >> 1]!
    const { bytes, flops = 0, precision = 'bf16' } = cost
    this.timing = { medianUs, gbPerSecond: bytes / medianUs / 1e3, tflops: flops / medianUs / 1e6, precision }
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) buffer[Symbol.dispose]()
    this.stream[Symbol.dispose]()
  }
}

/** @param chip of the GPU: 90 is sm_90 */
export function canRun({ minArchitecture }: Pick<KernelCheck, 'minArchitecture'>, chip: number): boolean {
  return chip >= minArchitecture
}

/** Whether every value was within its tolerance, none NaN, and anything was compared at all. */
export function isPassed(comparisons: readonly Comparison[]): boolean {
  return comparisons.length > 0 && comparisons.every(({ nanCount, worst }) => nanCount === 0 && worst <= 1)
}

/** Runs a check, untimed. @returns what was not as the oracle says; a line when nothing was compared */
export async function findFailures(
  loader: KernelLoader,
  check: KernelCheck,
): Promise<readonly (Comparison | string)[]> {
  using bench = new KernelBench(loader, { rounds: 0 })
  await check.run(bench)
  if (bench.comparisons.length === 0) return ['nothing was compared']
  return bench.comparisons.filter((each) => !isPassed([each]))
}
