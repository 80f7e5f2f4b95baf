import { normalizeRows } from '../../vectors.ts'
import type { KernelCheck } from '../checks/kernel-bench.ts'
import { fromBf16 } from '../checks/number-formats.ts'
import { makeNormalBf16 } from '../checks/random-values.ts'
import { loadPooling, type PoolingOptions, poolingVariant } from './pooling.ts'
import { rmsnorm } from './residual-rmsnorm.check.ts'

const epsilon = 1e-6

interface Shape {
  readonly lengths: readonly number[]
  readonly dimensions: number
  readonly normalize: boolean
}

export const poolingChecks: readonly KernelCheck[] = [
  check({ rowSize: 384, pooling: 'mean' }, { lengths: [1, 7, 20], dimensions: 384, normalize: true }),
  check({ rowSize: 1024, pooling: 'mean' }, { lengths: [40, 1], dimensions: 1000, normalize: true }),
  check({ rowSize: 768, pooling: 'cls' }, { lengths: [3, 1], dimensions: 765, normalize: false }),
  check(
    { rowSize: 2560, pooling: 'last-token', rmsNorm: { epsilon } },
    { lengths: [5, 1, 2], dimensions: 100, normalize: true },
  ),
  check(
    { rowSize: 384, pooling: 'mean' },
    { lengths: Array.from({ length: 64 }, () => 256), dimensions: 384, normalize: true },
  ),
  check(
    { rowSize: 2560, pooling: 'last-token', rmsNorm: { epsilon } },
    { lengths: Array.from({ length: 32 }, () => 512), dimensions: 2560, normalize: true },
  ),
]

function check(options: PoolingOptions, { lengths, dimensions, normalize }: Shape): KernelCheck {
  const { rowSize, pooling, rmsNorm } = options
  const tokens = lengths.reduce((sum, length) => sum + length, 0)
  return {
    name: `pooling ${pooling} ${lengths.length} of ${tokens} x ${rowSize} to ${dimensions}`,
    size: tokens > 64 ? 'real' : 'small',
    minArchitecture: poolingVariant(options).minArchitecture,
    run: async (bench) => {
      const hidden = makeNormalBf16(tokens * rowSize, 1, 3)
      const gamma = makeNormalBf16(rowSize, 2)
      const cumulativeLengths = new Int32Array(lengths.length + 1)
      for (const [i, length] of lengths.entries()) cumulativeLengths[i + 1] = cumulativeLengths[i]! + length
      const launch = await loadPooling(bench.loader, options)
      const output = bench.output(lengths.length * dimensions * 4)
      const buffers = {
        hidden: bench.upload(hidden),
        gamma: bench.upload(gamma),
        cumulativeLengths: bench.upload(cumulativeLengths),
      }
      const run = () =>
        launch(bench.stream, { sequences: lengths.length, ...buffers, output, dimensions, normalize })
      run()
      const values = fromBf16(hidden)
      const expected = new Float32Array(lengths.length * dimensions)
      for (const i of lengths.keys()) {
        const [begin, end] = [cumulativeLengths[i]!, cumulativeLengths[i + 1]!]
        const [from, to] =
          pooling === 'mean' ? [begin, end] : pooling === 'cls' ? [begin, begin + 1] : [end - 1, end]
        let row: Float64Array = new Float64Array(rowSize)
        for (let token = from; token < to; token++)
          for (let d = 0; d < rowSize; d++) row[d]! += values[token * rowSize + d]! / (to - from)
        if (rmsNorm !== undefined) row = rmsnorm(row, fromBf16(gamma), rowSize)
        expected.set(row.subarray(0, dimensions), i * dimensions)
      }
      if (normalize) normalizeRows(expected, lengths.length, dimensions)
      const actual = await bench.download(output, new Float32Array(expected.length))
      bench.compare('vectors', actual, expected, { absolute: 1e-5, relative: 1e-4 })
      const rows = pooling === 'mean' ? tokens : lengths.length
      await bench.measure(run, { bytes: rows * rowSize * 2 + expected.byteLength })
    },
  }
}
