/** cuBLASLt against the CPU, in every precision and form that the models use. */
import {
  Matmul,
  type MatmulLibrary,
  type MatmulPrecision,
  matmulPrecisions,
} from '../../../hardware/gpu/matmul.ts'
import type { KernelCheck } from './kernel-bench.ts'
import { fromBf16, fromE4m3 } from './number-formats.ts'
import { makeNormalBf16, makeRandom } from './random-values.ts'

interface Shape {
  readonly rows: number
  readonly columns: number
  readonly inner: number
  readonly bias: boolean
  readonly accumulate: boolean
}

export function makeMatmulChecks(library: MatmulLibrary): KernelCheck[] {
  const plain = { rows: 17, columns: 48, inner: 64, bias: false, accumulate: false }
  return matmulPrecisions.flatMap((precision) =>
    [
      plain,
      { ...plain, accumulate: true },
      { ...plain, bias: true },
      { ...plain, rows: 1, columns: 384, inner: 1536 },
    ].map((shape) => check(library, precision, shape)),
  )
}

function check(library: MatmulLibrary, precision: MatmulPrecision, shape: Shape): KernelCheck {
  const { rows, columns, inner, bias, accumulate } = shape
  const form = [bias ? ' + bias' : '', accumulate ? ' + D' : ''].join('')
  return {
    name: `matmul ${precision} ${rows} x ${inner} by ${columns}${form}`,
    size: 'small',
    minArchitecture: precision === 'bf16' ? 80 : precision === 'fp8' ? 89 : 90,
    run: async (bench) => {
      using matmul = new Matmul(library, { precision, ...shape })
      const [a, b] = [makeOperand(precision, rows, inner, 1), makeOperand(precision, columns, inner, 2)]
      const [shift, before] = [makeNormalBf16(columns, 3), makeNormalBf16(rows * columns, 4)]
      const operands = {
        a: bench.upload(a.bits),
        b: bench.upload(b.bits),
        d: accumulate ? bench.upload(before) : bench.output(rows * columns * 2),
        ...(precision === 'bf16' ? {} : { aScale: bench.upload(a.scales), bScale: bench.upload(b.scales) }),
        ...(bias ? { bias: bench.upload(shift) } : {}),
      }
      matmul.launch(bench.stream, operands, matmul.heuristics(operands)[0]!)
      const [shifts, held] = [fromBf16(shift), fromBf16(before)]
      const expected = new Float64Array(rows * columns)
      for (const i of expected.keys()) {
        const [row, column] = [Math.floor(i / columns), i % columns]
        let sum = 0
        for (let k = 0; k < inner; k++) sum += a.values[row * inner + k]! * b.values[column * inner + k]!
        expected[i] = sum + (bias ? shifts[column]! : 0) + (accumulate ? held[i]! : 0)
      }
      const actual = fromBf16(await bench.download(operands.d, new Uint16Array(rows * columns)))
      // FP8 sums with fast accumulation keep about 14 bits.
      const scale = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length)
      bench.compare('product', actual, expected, { absolute: scale * 4e-3, relative: 2 ** -7 })
    },
  }
}

/** Bits, scales, and what they stand for. */
export function makeOperand(
  precision: MatmulPrecision,
  rows: number,
  inner: number,
  seed: number,
): { bits: Uint8Array | Uint16Array; scales: Float32Array; values: Float32Array } {
  if (precision === 'bf16') {
    const bits = makeNormalBf16(rows * inner, seed)
    return { bits, scales: new Float32Array(0), values: fromBf16(bits) }
  }
  const random = makeRandom(seed)
  // Of both signs and every exponent but the largest, so never NaN.
  const bits = Uint8Array.from({ length: rows * inner }, () => (Math.floor(random() * 256) & 0xf7) % 248)
  const scales = Float32Array.from({ length: precision === 'fp8' ? 1 : rows }, () => 0.01 + random() / 50)
  const scaleOf = (row: number) => scales[precision === 'fp8' ? 0 : row]!
  const values = fromE4m3(bits).map((value, i) => value * scaleOf(Math.floor(i / inner)))
  return { bits, scales, values }
}
