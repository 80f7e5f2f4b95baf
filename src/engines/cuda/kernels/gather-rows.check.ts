import type { KernelCheck } from '../checks/kernel-bench.ts'
import { makeRandom } from '../checks/random-values.ts'
import { gatherRowsVariant, loadGatherRows } from './gather-rows.ts'

export const gatherRowsChecks: readonly KernelCheck[] = [
  check({ firstBytes: 512, secondBytes: 3072, rows: 70, count: 9 }),
  check({ firstBytes: 16, secondBytes: 4112, rows: 3, count: 1 }),
  check({ firstBytes: 1536, secondBytes: 0, rows: 20, count: 31 }),
  check({ firstBytes: 12_288, secondBytes: 0, rows: 1024, count: 4096 }),
  check({ firstBytes: 5120, secondBytes: 4096, rows: 16_384, count: 1024 }),
]

interface Shape {
  readonly firstBytes: number
  readonly secondBytes: number
  readonly rows: number
  readonly count: number
}

function check({ rows, count, firstBytes, secondBytes }: Shape): KernelCheck {
  const options = secondBytes === 0 ? { firstBytes } : { firstBytes, secondBytes }
  return {
    name: `gather_rows ${count} of ${rows} rows of ${firstBytes} and ${secondBytes} bytes`,
    size: rows > 128 ? 'real' : 'small',
    minArchitecture: gatherRowsVariant(options).minArchitecture,
    run: async (bench) => {
      const random = makeRandom(1)
      const pick = (limit: number) => Math.floor(random() * limit)
      const chosen = Int32Array.from({ length: count }, () => pick(rows))
      const arrays = Object.values(options).map((bytes, seed) => {
        const values = Uint8Array.from({ length: rows * bytes }, (_, i) => (i * 31 + (i >> 8) + seed) & 0xff)
        return { bytes, values, input: bench.upload(values), output: bench.output(count * bytes) }
      })
      const launch = await loadGatherRows(bench.loader, options)
      const [first, second] = arrays
      const args = {
        count,
        rows: bench.upload(chosen),
        first: first!.input,
        firstTo: first!.output,
        ...(second === undefined ? {} : { second: second.input, secondTo: second.output }),
      }
      const run = () => launch(bench.stream, args)
      run()
      for (const [i, { bytes, values, output }] of arrays.entries()) {
        const expected = new Uint8Array(count * bytes)
        for (const [to, from] of chosen.entries())
          expected.set(values.subarray(from * bytes, (from + 1) * bytes), to * bytes)
        const written = await bench.download(output, new Uint8Array(count * bytes))
        bench.compare(i === 0 ? 'first' : 'second', written, expected, { absolute: 0.5, relative: 0 })
      }
      await bench.measure(run, { bytes: 2 * count * (firstBytes + secondBytes) })
    },
  }
}
