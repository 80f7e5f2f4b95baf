/** The output of a kernel with a block a row in each of its forms, and the comparison with what it stands for. */
import type { MatmulPrecision } from '../../../hardware/gpu/matmul.ts'
import { noPointer, type RowOutput } from '../kernels/rows.ts'
import { bf16Tolerance, type KernelBench } from './kernel-bench.ts'
import { e4m3Max, fromBf16, fromE4m3 } from './number-formats.ts'

export interface CheckedOutput extends Required<RowOutput> {
  /** @param expected f64 of the first rows, before it is quantised */
  compare(expected: Float64Array): Promise<void>
  readonly bytes: number
}

/** @param staticScale for 'fp8': some values should saturate */
export function makeRowOutput(
  bench: KernelBench,
  precision: MatmulPrecision,
  shape: { readonly rows: number; readonly rowSize: number; readonly staticScale: number },
): CheckedOutput {
  const { rows, rowSize, staticScale } = shape
  const count = rows * rowSize
  if (precision === 'bf16') {
    const output = bench.output(count * 2)
    return {
      output,
      scale: noPointer,
      bytes: count * 2,
      compare: async (expected) => {
        const bits = await bench.download(output, new Uint16Array(count))
        bench.compare('bf16', fromBf16(bits.subarray(0, expected.length)), expected, bf16Tolerance)
        compareUnwritten(bench, bits, 0xffff)
      },
    }
  }
  const output = bench.output(count)
  const scales = precision === 'fp8' ? Float32Array.of(staticScale) : new Float32Array(rows).fill(Number.NaN)
  const scale = bench.upload(scales)
  return {
    output,
    scale,
    bytes: count,
    compare: async (expected) => {
      const written = await bench.download(scale, new Float32Array(scales.length))
      const scaleOf = (index: number) =>
        precision === 'fp8' ? staticScale : written[Math.floor(index / rowSize)]!
      if (precision === 'fp8-rowwise') {
        const wanted = Array.from({ length: expected.length / rowSize }, (_, row) => {
          const sizes = expected.subarray(row * rowSize, (row + 1) * rowSize).map(Math.abs)
          return sizes.reduce((a, b) => Math.max(a, b), 0) / e4m3Max || 1
        })
        bench.compare('scale', written, wanted, { absolute: 1e-12, relative: 2 ** -10 })
      }
      const bits = await bench.download(output, new Uint8Array(count))
      const quantised = fromE4m3(bits.subarray(0, expected.length))
      compareUnwritten(bench, bits, 0xff)
      const actual = quantised.map((value, index) => value * scaleOf(index))
      const saturated = expected.map((value, index) => {
        const limit = e4m3Max * scaleOf(index)
        return Math.min(Math.max(value, -limit), limit)
      })
      // Half a step of three mantissa bits, and of the smallest step below 2^-6; a little more for sums in f32.
      bench.compare('e4m3', actual, saturated, (index) => ({
        absolute: scaleOf(index) * 2 ** -10 * 1.02,
        relative: 2 ** -4 * 1.02,
      }))
    },
  }
}

/** What output() puts there is NaN, which no kernel writes of finite input. */
function compareUnwritten(bench: KernelBench, bits: Uint8Array | Uint16Array, poison: number): void {
  let count = 0
  for (const value of bits) if (value === poison) count++
  bench.compare('values not written', [count], [0], { absolute: 0.5, relative: 0 })
}
