import type { KernelCheck } from '../checks/kernel-bench.ts'
import { makeOperand } from '../checks/matmul-checks.ts'
import { e4m3Max, fromBf16, fromE4m3 } from '../checks/number-formats.ts'
import { makeNormalBf16 } from '../checks/random-values.ts'
import {
  fewRows,
  type FewRowsOptions,
  fewRowsProductVariant,
  loadFewRowsProduct,
} from './few-rows-product.ts'

const outputScale = 4 / e4m3Max

const qwen4b: readonly FewRowsOptions[] = [
  { columns: 6144, inner: 2560, precision: 'fp8', output: 'written' },
  { columns: 2560, inner: 4096, precision: 'fp8', output: 'added' },
  { columns: 9728, inner: 2560, precision: 'fp8', output: 'swiglu' },
  { columns: 2560, inner: 9728, precision: 'fp8', output: 'added' },
]

/** With other numbers of warps: benchmarks/gpu/kernels.mjs --variants few-rows. */
export function makeFewRowsVariantChecks(): KernelCheck[] {
  return qwen4b.flatMap((options) => [4, 8, 16].map((warps) => check({ ...options, warps })))
}

export const fewRowsProductChecks: readonly KernelCheck[] = [
  // One piece, fewer than warps, and some warps with a piece more than others.
  check({ columns: 32, inner: 64, precision: 'fp8', output: 'written' }),
  check({ columns: 16, inner: 320, precision: 'fp8-rowwise', output: 'written' }),
  check({ columns: 48, inner: 2560 + 192, precision: 'fp8', output: 'added' }),
  check({ columns: 48, inner: 640, precision: 'fp8-rowwise', output: 'added' }),
  check({ columns: 32, inner: 640, precision: 'fp8', output: 'swiglu' }),
  check({ columns: 16, inner: 640, precision: 'fp8', output: 'written', warps: 4 }),
  ...qwen4b.map(check),
  check({ columns: 2560, inner: 9728, precision: 'fp8-rowwise', output: 'added' }),
]

function check(options: FewRowsOptions): KernelCheck {
  const { columns, inner, precision, output: form } = options
  const isSwiglu = form === 'swiglu'
  const weightRows = isSwiglu ? 2 * columns : columns
  const isSmall = columns < 256
  return {
    name: `few_rows_product ${precision} ${fewRows} x ${inner} by ${columns}, ${form}${options.warps === undefined ? '' : `, ${options.warps} warps`}`,
    size: isSmall ? 'small' : 'real',
    minArchitecture: fewRowsProductVariant(options).minArchitecture,
    run: async (bench) => {
      const a = makeOperand(precision, fewRows, inner, 1)
      const b = makeOperand(precision, weightRows, inner, 2)
      // Results near 1, where a sigmoid is neither 0 nor 1.
      const shrink = 1 / Math.sqrt(inner)
      const before = makeNormalBf16(fewRows * columns, 4)
      const launch = await loadFewRowsProduct(bench.loader, options)
      const count = fewRows * columns
      const args = {
        input: bench.upload(a.bits),
        inputScale: bench.upload(a.scales),
        weights: bench.upload(b.bits),
        weightScale: bench.upload(b.scales.map((scale) => scale * shrink)),
        output: form === 'added' ? bench.upload(before) : bench.output(isSwiglu ? count : count * 2),
        outputScale: bench.upload(Float32Array.of(outputScale)),
      }
      const run = () => launch(bench.stream, args)
      run()
      const actual = isSwiglu
        ? fromE4m3(await bench.download(args.output, new Uint8Array(count))).map(
            (value) => value * outputScale,
          )
        : fromBf16(await bench.download(args.output, new Uint16Array(count)))
      const product = (row: number, column: number): number => {
        let sum = 0
        for (let k = 0; k < inner; k++) sum += a.values[row * inner + k]! * b.values[column * inner + k]!
        return sum * shrink
      }
      const held = fromBf16(before)
      // Every row of some columns, the first and the last among them.
      const step = isSmall ? 1 : 37
      const places = Array.from({ length: fewRows }, (_, row) =>
        [...Array(columns).keys()]
          .filter((column) => column % step === 0 || column === columns - 1)
          .map((column) => [row, column] as const),
      ).flat()
      const expected = places.map(([row, column]) => {
        const value = product(row, column)
        if (form === 'written') return value
        if (form === 'added') return value + held[row * columns + column]!
        const active = (value / (1 + Math.exp(-value))) * product(row, columns + column)
        return Math.min(Math.max(active, -e4m3Max * outputScale), e4m3Max * outputScale)
      })
      const found = places.map(([row, column]) => actual[row * columns + column]!)
      const scale = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length)
      // E4M3 is summed up with about 14 bits; three bits of mantissa are written, from sums that may be off by as much.
      bench.compare('product', found, expected, {
        absolute: scale * (isSwiglu ? 8e-3 : 4e-3) + (isSwiglu ? outputScale * 2 ** -10 : 0),
        relative: isSwiglu ? 2 ** -4 * 1.1 : 2 ** -7,
      })
      const unwritten = actual.reduce((sum, value) => sum + Number(Number.isNaN(value)), 0)
      bench.compare('values not written', [unwritten], [0], { absolute: 0.5, relative: 0 })
      await bench.measure(run, {
        bytes: weightRows * inner + fewRows * inner + count * (isSwiglu ? 1 : 2),
        flops: 2 * fewRows * weightRows * inner,
        precision: 'fp8',
      })
    },
  }
}
