import type { MatmulPrecision } from '../../../hardware/gpu/matmul.ts'
import { bf16Tolerance, type KernelCheck } from '../checks/kernel-bench.ts'
import { fromBf16 } from '../checks/number-formats.ts'
import { makeNormalBf16, makeRandom } from '../checks/random-values.ts'
import { makeRowOutput } from '../checks/row-output.ts'
import { embeddingVariant, loadEmbedding } from './embedding.ts'
import { layernorm } from './residual-layernorm.check.ts'

const epsilon = 1e-12

export const embeddingChecks: readonly KernelCheck[] = [
  check('fp8', { rows: 5, rowSize: 384, isBert: true }),
  check('fp8-rowwise', { rows: 5, rowSize: 384, isBert: true }),
  check('bf16', { rows: 3, rowSize: 1024, isBert: false }),
  check('bf16', { rows: 16_384, rowSize: 384, isBert: true }),
]

interface Shape {
  readonly rows: number
  readonly rowSize: number
  readonly isBert: boolean
}

function check(precision: MatmulPrecision, { rows, rowSize, isBert }: Shape): KernelCheck {
  const options = { rowSize, output: precision, ...(isBert ? { layernorm: { epsilon } } : {}) }
  const [vocabulary, positionCount] = [1000, 64]
  return {
    name: `embedding ${precision} ${rows} x ${rowSize}${isBert ? ' of BERT' : ''}`,
    size: rows > 64 ? 'real' : 'small',
    minArchitecture: embeddingVariant(options).minArchitecture,
    run: async (bench) => {
      const random = makeRandom(5)
      const pick = (limit: number) => Int32Array.from({ length: rows }, () => Math.floor(random() * limit))
      const [ids, positions] = [pick(vocabulary), pick(positionCount)]
      const word = makeNormalBf16(vocabulary * rowSize, 1)
      const position = makeNormalBf16(positionCount * rowSize, 2)
      const [type, gamma, beta] = [3, 4, 6].map((seed) => makeNormalBf16(rowSize, seed))
      const launch = await loadEmbedding(bench.loader, options)
      const hidden = bench.output(rows * rowSize * 2)
      const out =
        precision === 'bf16'
          ? undefined
          : makeRowOutput(bench, precision, { rows, rowSize, staticScale: 1 / 128 })
      const args = {
        rows,
        ids: bench.upload(ids),
        word: bench.upload(word),
        hidden,
        ...(out === undefined ? {} : { output: out.output, scale: out.scale }),
        ...(isBert
          ? {
              layernorm: {
                positions: bench.upload(positions),
                position: bench.upload(position),
                type: bench.upload(type!),
                gamma: bench.upload(gamma!),
                beta: bench.upload(beta!),
              },
            }
          : {}),
      }
      const run = () => launch(bench.stream, args)
      run()
      const [words, places, types] = [fromBf16(word), fromBf16(position), fromBf16(type!)]
      const sums = Float64Array.from({ length: Math.min(rows, 8) * rowSize }, (_, i) => {
        const [row, column] = [Math.floor(i / rowSize), i % rowSize]
        const own = words[ids[row]! * rowSize + column]!
        return isBert ? own + places[positions[row]! * rowSize + column]! + types[column]! : own
      })
      const weights = { gamma: fromBf16(gamma!), beta: fromBf16(beta!), rowSize, epsilon }
      const expected = isBert ? layernorm(sums, weights) : sums
      const written = fromBf16(await bench.download(hidden, new Uint16Array(rows * rowSize)))
      bench.compare('hidden', written, expected, isBert ? bf16Tolerance : { absolute: 1e-30, relative: 0 })
      await out?.compare(expected)
      await bench.measure(run, { bytes: rows * rowSize * (isBert ? 6 : 4) })
    },
  }
}
