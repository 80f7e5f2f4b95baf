import { type MatmulPrecision, matmulPrecisions } from '../../../hardware/gpu/matmul.ts'
import type { KernelCheck } from '../checks/kernel-bench.ts'
import { fromBf16 } from '../checks/number-formats.ts'
import { makeNormalBf16 } from '../checks/random-values.ts'
import { makeRowOutput } from '../checks/row-output.ts'
import { geluVariant, loadGelu } from './gelu.ts'

export const geluChecks: readonly KernelCheck[] = [
  check('bf16', { rows: 3, rowSize: 104, approximate: false }),
  check('fp8', { rows: 3, rowSize: 1536, approximate: true }),
  check('fp8-rowwise', { rows: 3, rowSize: 104, approximate: false }),
  ...matmulPrecisions.map((precision) =>
    check(precision, { rows: 16_384, rowSize: 4096, approximate: false }),
  ),
]

interface Shape {
  readonly rows: number
  readonly rowSize: number
  readonly approximate: boolean
}

function check(precision: MatmulPrecision, { rows, rowSize, approximate }: Shape): KernelCheck {
  const options = { rowSize, output: precision, approximate }
  return {
    name: `gelu ${precision} ${rows} x ${rowSize}${approximate ? ' by tanh' : ''}`,
    size: rows > 64 ? 'real' : 'small',
    minArchitecture: geluVariant(options).minArchitecture,
    run: async (bench) => {
      const [input, bias] = [makeNormalBf16(rows * rowSize, 1, 2), makeNormalBf16(rowSize, 2)]
      const launch = await loadGelu(bench.loader, options)
      const out = makeRowOutput(bench, precision, { rows, rowSize, staticScale: 1 / 64 })
      const buffers = { input: bench.upload(input), bias: bench.upload(bias) }
      const run = () => launch(bench.stream, { rows, ...buffers, output: out.output, scale: out.scale })
      run()
      const values = fromBf16(input.subarray(0, Math.min(rows, 8) * rowSize))
      const shift = fromBf16(bias)
      const gelu = approximate ? geluByTanh : geluExact
      await out.compare(Float64Array.from(values, (value, i) => gelu(value + shift[i % rowSize]!)))
      await bench.measure(run, { bytes: rows * rowSize * 2 + out.bytes })
    },
  }
}

function geluByTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
}

function geluExact(x: number): number {
  return 0.5 * x * (1 + erf(x / Math.SQRT2))
}

/** By its series where that converges fast, by the continued fraction of erfc beyond. @see Abramowitz & Stegun 7.1 */
export function erf(x: number): number {
  const size = Math.abs(x)
  if (size > 3) {
    let fraction = size
    for (let k = 60; k >= 1; k--) fraction = size + k / 2 / fraction
    return Math.sign(x) * (1 - Math.exp(-size * size) / Math.sqrt(Math.PI) / fraction)
  }
  let [term, sum] = [x, x]
  for (let n = 1; n < 80; n++) {
    term *= (-x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * sum
}
