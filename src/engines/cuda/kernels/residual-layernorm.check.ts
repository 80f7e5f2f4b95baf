import { type MatmulPrecision, matmulPrecisions } from '../../../hardware/gpu/matmul.ts'
import { bf16Tolerance, type KernelCheck } from '../checks/kernel-bench.ts'
import { fromBf16, toBf16 } from '../checks/number-formats.ts'
import { makeNormal, makeNormalBf16 } from '../checks/random-values.ts'
import { makeRowOutput } from '../checks/row-output.ts'
import { loadResidualLayernorm, residualLayernormVariant } from './residual-layernorm.ts'

const epsilon = 1e-12

export const residualLayernormChecks: readonly KernelCheck[] = [
  check('bf16', 3, 384),
  check('fp8', 2, 1032),
  check('fp8-rowwise', 3, 384),
  ...matmulPrecisions.map((precision) => check(precision, 16_384, 1024)),
]

function check(precision: MatmulPrecision, rows: number, rowSize: number): KernelCheck {
  const options = { rowSize, output: precision, epsilon }
  return {
    name: `residual_layernorm ${precision} ${rows} x ${rowSize}`,
    size: rows > 64 ? 'real' : 'small',
    minArchitecture: residualLayernormVariant(options).minArchitecture,
    run: async (bench) => {
      const count = rows * rowSize
      // A mean far from zero, which a naive variance loses.
      const hidden = toBf16(makeNormal(count, 1, 2).map((value) => value + 20))
      const delta = makeNormalBf16(count, 2)
      const [gamma, beta] = [makeNormalBf16(rowSize, 3), makeNormalBf16(rowSize, 4)]
      const launch = await loadResidualLayernorm(bench.loader, options)
      const buffers = {
        hidden: bench.upload(hidden),
        delta: bench.upload(delta),
        gamma: bench.upload(gamma),
        beta: bench.upload(beta),
      }
      const isQuantised = precision !== 'bf16'
      const out = isQuantised
        ? makeRowOutput(bench, precision, { rows, rowSize, staticScale: 1 / 128 })
        : undefined
      const given = out === undefined ? {} : { output: out.output, scale: out.scale }
      const run = () => launch(bench.stream, { rows, ...buffers, ...given })
      run()
      const [left, right] = [fromBf16(hidden), fromBf16(delta)]
      const sums = Float64Array.from({ length: Math.min(rows, 8) * rowSize }, (_, i) => left[i]! + right[i]!)
      const expected = layernorm(sums, { gamma: fromBf16(gamma), beta: fromBf16(beta), rowSize, epsilon })
      const written = fromBf16(await bench.download(buffers.hidden, new Uint16Array(count)))
      bench.compare('hidden', written, expected, bf16Tolerance)
      await out?.compare(expected)
      await bench.measure(run, { bytes: count * 6 + (out?.bytes ?? 0) })
    },
  }
}

/** In f64. */
export function layernorm(
  values: Float64Array,
  options: {
    readonly gamma: Float32Array
    readonly beta: Float32Array
    readonly rowSize: number
    readonly epsilon: number
  },
): Float64Array {
  const { gamma, beta, rowSize } = options
  const out = new Float64Array(values.length)
  for (let start = 0; start < values.length; start += rowSize) {
    const row = values.subarray(start, start + rowSize)
    const mean = row.reduce((sum, value) => sum + value, 0) / rowSize
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / rowSize
    const factor = 1 / Math.sqrt(variance + options.epsilon)
    for (let i = 0; i < rowSize; i++) out[start + i] = (row[i]! - mean) * factor * gamma[i]! + beta[i]!
  }
  return out
}
