/** Whether two algorithms give the same product: an algorithm that is configured wrong is not to be found fast. */
import type { DevicePointer } from '../ffi/cuda.ts'
import type { Matmul, MatmulAlgorithm, MatmulOperands } from './matmul.ts'
import { PinnedBuffer } from './pinned-buffer.ts'
import type { GpuStream } from './stream.ts'

/** Of the beginning and of the end of D: all of it for few rows. */
const sampledBytes = 512 << 10
/** FP8 sums with fast accumulation keep about 14 bits, and another order rounds otherwise; parts of a split sum may be added
 * as bf16. */
const tolerance = { ofRms: 8e-3, relative: 2 ** -6 }

export interface AgreementOptions {
  readonly stream: GpuStream
  /** D is written over. */
  readonly operands: MatmulOperands
}

/** Gives whether the product of an algorithm is that of `reference`. */
export async function makeAgreement(
  matmul: Matmul,
  reference: MatmulAlgorithm,
  options: AgreementOptions,
): Promise<(algorithm: MatmulAlgorithm) => Promise<boolean>> {
  const expected = await readProduct(matmul, reference, options)
  const finite = expected.filter((value) => Number.isFinite(value))
  const rms = Math.sqrt(finite.reduce((sum, value) => sum + value * value, 0) / finite.length)
  const absolute = tolerance.ofRms * rms
  return async (algorithm) => {
    const actual = await readProduct(matmul, algorithm, options)
    return expected.every((value, i) => {
      const difference = Math.abs(actual[i]! - value)
      // Rows beyond a batch's tokens may hold anything.
      return !Number.isFinite(value) || difference <= absolute + tolerance.relative * Math.abs(value)
    })
  }
}

async function readProduct(
  matmul: Matmul,
  algorithm: MatmulAlgorithm,
  { stream, operands }: AgreementOptions,
): Promise<Float32Array> {
  const { gpu } = matmul.library
  const { rows, columns, accumulate } = matmul.shape
  const totalBytes = rows * columns * 2
  const bytes = Math.min(totalBytes, sampledBytes)
  using sample = new PinnedBuffer(gpu, 'products to compare', 2 * bytes)
  const cuda = gpu.makeCurrent()
  // What is added to nothing, or NaN where nothing is written.
  cuda.cuMemsetD8Async(operands.d, accumulate === true ? 0 : 0xff, totalBytes, stream.handle)
  matmul.launch(stream, operands, algorithm)
  for (const [i, fromByte] of [0, totalBytes - bytes].entries()) {
    const source = (operands.d + BigInt(fromByte)) as DevicePointer
    const target = sample.handle + BigInt(i * bytes)
    cuda.cuMemcpyDtoHAsync_v2(target as typeof sample.handle, source, bytes, stream.handle)
  }
  await stream.idle()
  const values = new Float32Array(bytes)
  const bits = new Uint32Array(values.buffer)
  const bf16 = new Uint16Array(sample.memory, 0, bytes)
  for (let i = 0; i < bytes; i++) bits[i] = bf16[i]! << 16
  return values
}
