import { type MatmulPrecision, matmulPrecisions } from '../../../hardware/gpu/matmul.ts'
import type { KernelCheck } from '../checks/kernel-bench.ts'
import { fromBf16 } from '../checks/number-formats.ts'
import { makeNormalBf16 } from '../checks/random-values.ts'
import { makeRowOutput } from '../checks/row-output.ts'
import { loadSwiglu, swigluVariant } from './swiglu.ts'

export const swigluChecks: readonly KernelCheck[] = [
  check('bf16', 3, 104),
  check('fp8', 2, 9728),
  check('fp8-rowwise', 2, 9728),
  ...matmulPrecisions.map((precision) => check(precision, 8192, 9728)),
]

function check(precision: MatmulPrecision, rows: number, rowSize: number): KernelCheck {
  const options = { rowSize, output: precision }
  return {
    name: `swiglu ${precision} ${rows} x ${rowSize}`,
    size: rows > 64 ? 'real' : 'small',
    minArchitecture: swigluVariant(options).minArchitecture,
    run: async (bench) => {
      const gateUp = makeNormalBf16(rows * 2 * rowSize, 1, 2)
      const launch = await loadSwiglu(bench.loader, options)
      const out = makeRowOutput(bench, precision, { rows, rowSize, staticScale: 1 / 16 })
      const input = bench.upload(gateUp)
      const run = () => launch(bench.stream, { rows, gateUp: input, output: out.output, scale: out.scale })
      run()
      const values = fromBf16(gateUp.subarray(0, Math.min(rows, 8) * 2 * rowSize))
      const expected = Float64Array.from({ length: values.length / 2 }, (_, i) => {
        const at = Math.floor(i / rowSize) * 2 * rowSize + (i % rowSize)
        const gate = values[at]!
        return (gate / (1 + Math.exp(-gate))) * values[at + rowSize]!
      })
      await out.compare(expected)
      await bench.measure(run, { bytes: rows * rowSize * 4 + out.bytes })
    },
  }
}
