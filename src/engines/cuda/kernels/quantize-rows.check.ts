import type { MatmulPrecision } from '../../../hardware/gpu/matmul.ts'
import type { KernelBench, KernelCheck } from '../checks/kernel-bench.ts'
import { e4m3Max, fromBf16 } from '../checks/number-formats.ts'
import { makeNormal, makeNormalBf16, makeRandom } from '../checks/random-values.ts'
import { makeRowOutput } from '../checks/row-output.ts'
import { widenFloat16 } from '../../../model/float16.ts'
import { loadQuantizeRows, type QuantizeSource, quantizeRowsVariant } from './quantize-rows.ts'

export const quantizeRowsChecks: readonly KernelCheck[] = [
  check('bf16', 'fp8', { rows: 3, rowSize: 136 }),
  check('bf16', 'fp8-rowwise', { rows: 3, rowSize: 136 }),
  check('fp16', 'fp8-rowwise', { rows: 3, rowSize: 136 }),
  check('fp32', 'bf16', { rows: 3, rowSize: 136 }),
  check('bf16', 'fp8', { rows: 19_456, rowSize: 2560 }),
  check('bf16', 'fp8-rowwise', { rows: 16_384, rowSize: 4096 }),
]

interface Shape {
  readonly rows: number
  readonly rowSize: number
}

function check(source: QuantizeSource, precision: MatmulPrecision, { rows, rowSize }: Shape): KernelCheck {
  const options = { rowSize, output: precision, source }
  return {
    name: `quantize_rows ${source} to ${precision} ${rows} x ${rowSize}`,
    size: rows > 64 ? 'real' : 'small',
    minArchitecture: quantizeRowsVariant(options).minArchitecture,
    run: async (bench) => {
      const { bits, values } = makeInput(source, rows, rowSize)
      const input = bench.upload(bits)
      const { quantize, findScale } = await loadQuantizeRows(bench.loader, options)
      // The scale as it is found for weights: nothing saturates.
      const staticScale = await checkScale(bench, { input, rows, values, findScale })
      const out = makeRowOutput(bench, precision, { rows, rowSize, staticScale })
      const run = () => quantize(bench.stream, { rows, input, output: out.output, scale: out.scale })
      run()
      await out.compare(Float64Array.from(values.subarray(0, Math.min(rows, 8) * rowSize)))
      await bench.measure(run, { bytes: bits.byteLength + out.bytes })
    },
  }
}

async function checkScale(
  bench: KernelBench,
  given: {
    readonly input: ReturnType<KernelBench['upload']>
    readonly rows: number
    readonly values: Float32Array
    readonly findScale: Awaited<ReturnType<typeof loadQuantizeRows>>['findScale']
  },
): Promise<number> {
  const { input, rows, values } = given
  const [amax, scale] = [bench.output(4), bench.output(4)]
  given.findScale(bench.stream, { rows, input, amax, scale })
  const found = await bench.download(scale, new Float32Array(1))
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  bench.compare('scale of all', found, [largest / e4m3Max], { absolute: 1e-12, relative: 2 ** -20 })
  return found[0]!
}

function makeInput(
  source: QuantizeSource,
  rows: number,
  rowSize: number,
): { bits: Uint16Array | Float32Array; values: Float32Array } {
  // One row of zeros: its scale must not be zero.
  const zeros = [rowSize, 2 * rowSize] as const
  if (source === 'bf16') {
    const bits = makeNormalBf16(rows * rowSize, 1, 0.02).fill(0, ...zeros)
    return { bits, values: fromBf16(bits) }
  }
  const values = makeNormal(rows * rowSize, 1, 0.02).fill(0, ...zeros)
  if (source === 'fp32') return { bits: values, values }
  // Any bits with an exponent below 31 are a finite value, 0xbfff takes the upper half of them away.
  const random = makeRandom(2)
  const bits = Uint16Array.from(values, () => Math.floor(random() * 65_536) & 0xbfff).fill(0, ...zeros)
  return { bits, values: widenFloat16(bits) }
}
