import { matmulPrecisions } from '../../../hardware/gpu/matmul.ts'
import { bf16Tolerance, type KernelCheck } from '../checks/kernel-bench.ts'
import { fromBf16 } from '../checks/number-formats.ts'
import { makeNormalBf16 } from '../checks/random-values.ts'
import { makeRowOutput } from '../checks/row-output.ts'
import { loadResidualRmsnorm, residualRmsnormVariant } from './residual-rmsnorm.ts'

const epsilon = 1e-6

export const residualRmsnormChecks: readonly KernelCheck[] = [
  check({ precision: 'bf16', rows: 3, rowSize: 96, withDelta: true }),
  check({ precision: 'fp8', rows: 2, rowSize: 4104, withDelta: false }),
  check({ precision: 'fp8-rowwise', rows: 2, rowSize: 4104, withDelta: true }),
  ...matmulPrecisions.map((precision) => check({ precision, rows: 16_384, rowSize: 2560, withDelta: false })),
]

function check(shape: {
  readonly precision: (typeof matmulPrecisions)[number]
  readonly rows: number
  readonly rowSize: number
  readonly withDelta: boolean
}): KernelCheck {
  const { precision, rows, rowSize, withDelta } = shape
  const options = { rowSize, output: precision, epsilon, withDelta }
  return {
    name: `residual_rmsnorm ${precision} ${rows} x ${rowSize}${withDelta ? ' with delta' : ''}`,
    size: rows > 64 ? 'real' : 'small',
    minArchitecture: residualRmsnormVariant(options).minArchitecture,
    run: async (bench) => {
      const [residual, delta] = [makeNormalBf16(rows * rowSize, 1, 3), makeNormalBf16(rows * rowSize, 2)]
      const gamma = makeNormalBf16(rowSize, 3, 0.5)
      const launch = await loadResidualRmsnorm(bench.loader, options)
      const out = makeRowOutput(bench, precision, { rows, rowSize, staticScale: 1 / 256 })
      const buffers = {
        residual: bench.upload(residual),
        delta: bench.upload(delta),
        gamma: bench.upload(gamma),
      }
      const run = () => launch(bench.stream, { rows, ...buffers, output: out.output, scale: out.scale })
      run()
      const checkedRows = Math.min(rows, 8)
      const sums = addRows(residual, delta, withDelta, checkedRows * rowSize)
      const written = await bench.download(buffers.residual, new Uint16Array(rows * rowSize))
      bench.compare(
        'residual',
        fromBf16(written),
        sums,
        withDelta ? bf16Tolerance : { absolute: 1e-30, relative: 0 },
      )
      await out.compare(rmsnorm(sums, fromBf16(gamma), rowSize))
      await bench.measure(run, { bytes: rows * rowSize * 2 + out.bytes })
    },
  }
}

function addRows(a: Uint16Array, b: Uint16Array, isAdded: boolean, count: number): Float64Array {
  const [left, right] = [fromBf16(a), fromBf16(b)]
  return Float64Array.from({ length: count }, (_, i) => left[i]! + (isAdded ? right[i]! : 0))
}

/** In f64. */
export function rmsnorm(values: Float64Array, gamma: Float32Array, rowSize: number): Float64Array {
  const out = new Float64Array(values.length)
  for (let start = 0; start < values.length; start += rowSize) {
    let sum = 0
    for (let i = 0; i < rowSize; i++) sum += values[start + i]! ** 2
    const factor = 1 / Math.sqrt(sum / rowSize + epsilon)
    for (let i = 0; i < rowSize; i++) out[start + i] = values[start + i]! * factor * gamma[i]!
  }
  return out
}
