import { bf16Tolerance, type KernelCheck } from '../checks/kernel-bench.ts'
import { fromBf16 } from '../checks/number-formats.ts'
import { makeNormalBf16, makeRandom } from '../checks/random-values.ts'
import { loadQkNormRope, makeRotation, type QkNormRopeOptions, qkNormRopeVariant } from './qk-norm-rope.ts'

const theta = 1e6
const positionCount = 512
const epsilon = 1e-6

export const qkNormRopeChecks: readonly KernelCheck[] = [
  check(5, { heads: 4, kvHeads: 2, headSize: 128, norm: { epsilon } }),
  check(3, { heads: 3, kvHeads: 1, headSize: 64 }),
  check(3, { heads: 2, kvHeads: 2, headSize: 32, norm: { epsilon } }),
  check(2, { heads: 2, kvHeads: 1, headSize: 256, norm: { epsilon } }),
  check(3, { heads: 4, kvHeads: 2, headSize: 128, norm: { epsilon }, keysOnly: true }),
  check(16_384, { heads: 32, kvHeads: 8, headSize: 128, norm: { epsilon }, keysOnly: true }),
  check(16_384, { heads: 32, kvHeads: 8, headSize: 128, norm: { epsilon } }),
]

function check(rows: number, options: QkNormRopeOptions): KernelCheck {
  const { heads, kvHeads, headSize, norm, keysOnly = false } = options
  const first = keysOnly ? heads : 0
  const rowSize = (heads + 2 * kvHeads) * headSize
  return {
    name: `qk_norm_rope ${rows} x (${heads - first} + ${kvHeads}) x ${headSize}${norm === undefined ? ' without norm' : ''}`,
    size: rows > 64 ? 'real' : 'small',
    minArchitecture: qkNormRopeVariant(options).minArchitecture,
    run: async (bench) => {
      const qkv = makeNormalBf16(rows * rowSize, 1, 2)
      const random = makeRandom(4)
      const positions = Int32Array.from({ length: rows }, () => Math.floor(random() * positionCount))
      const [queryGamma, keyGamma] = [makeNormalBf16(headSize, 2), makeNormalBf16(headSize, 3)]
      const launch = await loadQkNormRope(bench.loader, options)
      const args = {
        rows,
        qkv: bench.upload(qkv),
        positions: bench.upload(positions),
        rotation: bench.upload(makeRotation(positionCount, headSize, theta)),
        queryGamma: bench.upload(queryGamma),
        keyGamma: bench.upload(keyGamma),
      }
      const run = () => launch(bench.stream, args)
      run()
      const before = fromBf16(qkv.subarray(0, Math.min(rows, 8) * rowSize))
      const expected = Float64Array.from(before)
      const gammas = [fromBf16(queryGamma), fromBf16(keyGamma)] as const
      for (let start = 0; start < expected.length; start += headSize) {
        const head = Math.floor((start % rowSize) / headSize)
        // Value heads stay.
        if (head < first || head >= heads + kvHeads) continue
        const gamma = norm === undefined ? undefined : gammas[head < heads ? 0 : 1]
        rotate(expected.subarray(start, start + headSize), positions[Math.floor(start / rowSize)]!, gamma)
      }
      const after = fromBf16(await bench.download(args.qkv, new Uint16Array(rows * rowSize)))
      bench.compare('qkv', after, expected, { ...bf16Tolerance, absolute: 4e-3 })
      await bench.measure(run, { bytes: rows * (heads - first + kvHeads) * headSize * 4 })
    },
  }
}

/** One head in place, in f64. */
export function rotate(head: Float64Array, position: number, gamma: Float32Array | undefined): void {
  const half = head.length / 2
  if (gamma !== undefined) {
    const sum = head.reduce((total, value) => total + value * value, 0)
    const factor = 1 / Math.sqrt(sum / head.length + epsilon)
    for (const i of head.keys()) head[i]! *= factor * gamma[i]!
  }
  for (let i = 0; i < half; i++) {
    const angle = position * theta ** (-i / half)
    const [low, high] = [head[i]!, head[i + half]!]
    head[i] = low * Math.cos(angle) - high * Math.sin(angle)
    head[i + half] = high * Math.cos(angle) + low * Math.sin(angle)
  }
}
