import { type KernelCheck } from '../checks/kernel-bench.ts'
import { fromBf16 } from '../checks/number-formats.ts'
import { makeNormalBf16, makeRandom } from '../checks/random-values.ts'
import {
  type FlashAttentionOptions,
  flashAttentionVariant,
  loadFlashAttention,
  makeAttentionTiles,
} from './flash-attention.ts'

const qwen4b = { heads: 32, kvHeads: 8, headSize: 128, isCausal: true }
const minilm = { heads: 12, kvHeads: 12, headSize: 32, isCausal: false }
const bgeLarge = { heads: 16, kvHeads: 16, headSize: 64, isCausal: false }

export const flashAttentionChecks: readonly KernelCheck[] = [
  // Around the edges of tiles of 64: one token, one tile, one more.
  check([1, 64, 65, 130], { heads: 2, kvHeads: 1, headSize: 128, isCausal: true }),
  check([1, 64, 65, 130], { heads: 2, kvHeads: 2, headSize: 64, isCausal: false }),
  check([3, 17, 128, 63], { heads: 3, kvHeads: 1, headSize: 32, isCausal: true }),
  check([200, 2], { heads: 1, kvHeads: 1, headSize: 32, isCausal: false }),
  check([512], qwen4b),
  check(
    Array.from({ length: 8 }, () => 512),
    qwen4b,
  ),
  check(
    Array.from({ length: 32 }, () => 512),
    qwen4b,
  ),
  check([16_384], qwen4b),
  check(makeLengths(128), qwen4b),
  check(
    Array.from({ length: 64 }, () => 256),
    minilm,
  ),
  check(
    Array.from({ length: 32 }, () => 512),
    bgeLarge,
  ),
]

function check(lengths: readonly number[], options: FlashAttentionOptions): KernelCheck {
  const { heads, kvHeads, headSize, isCausal } = options
  const tokens = lengths.reduce((sum, length) => sum + length, 0)
  const isSmall = tokens * heads < 1024
  const range = [...new Set([Math.min(...lengths), Math.max(...lengths)])].join('-')
  return {
    name: `flash_attention ${lengths.length} x ${range}, ${heads}/${kvHeads} x ${headSize} ${isCausal ? 'causal' : 'both ways'}`,
    size: isSmall ? 'small' : 'real',
    minArchitecture: flashAttentionVariant(options).minArchitecture,
    run: async (bench) => {
      const rowSize = (heads + 2 * kvHeads) * headSize
      const qkv = makeNormalBf16(tokens * rowSize, 1)
      const cumulativeLengths = new Int32Array(lengths.length + 1)
      for (const [i, length] of lengths.entries()) cumulativeLengths[i + 1] = cumulativeLengths[i]! + length
      const tileCount = makeAttentionTiles(cumulativeLengths, { isCausal }).length / 4 + 1
      const tiles = makeAttentionTiles(cumulativeLengths, { isCausal, tileCount })
      const launch = await loadFlashAttention(bench.loader, options)
      const output = bench.output(tokens * heads * headSize * 2)
      const args = { qkv: bench.upload(qkv), output, tiles: bench.upload(tiles), tileCount }
      const run = () => launch(bench.stream, args)
      run()
      const actual = fromBf16(await bench.download(output, new Uint16Array(tokens * heads * headSize)))
      const values = fromBf16(qkv)
      const places = isSmall ? allPlaces(tokens, heads) : somePlaces(tokens, heads, 200)
      const found: number[] = []
      const expected: number[] = []
      for (const [token, head] of places) {
        const sequence = cumulativeLengths.findIndex((end) => end > token) - 1
        const begin = cumulativeLengths[sequence]!
        const end = isCausal ? token + 1 : cumulativeLengths[sequence + 1]!
        expected.push(...attend(values, options, { token, head, begin, end }))
        const at = (token * heads + head) * headSize
        found.push(...actual.subarray(at, at + headSize))
      }
      // Weights are rounded to bf16 before they meet the values.
      bench.compare('output', found, expected, { absolute: 8e-3, relative: 2 ** -6 })
      const unwritten = actual.reduce((count, value) => count + Number(Number.isNaN(value)), 0)
      bench.compare('rows without a value', [unwritten], [0], { absolute: 0.5, relative: 0 })
      const pairs = lengths.reduce(
        (sum, length) => sum + (isCausal ? (length * (length + 1)) / 2 : length ** 2),
        0,
      )
      await bench.measure(run, {
        bytes: tokens * (rowSize + heads * headSize) * 2,
        flops: 4 * pairs * heads * headSize,
      })
    },
  }
}

/** One query in f64. */
function attend(
  qkv: Float32Array,
  { heads, kvHeads, headSize }: FlashAttentionOptions,
  place: { readonly token: number; readonly head: number; readonly begin: number; readonly end: number },
): Float64Array {
  const { token, head, begin, end } = place
  const rowSize = (heads + 2 * kvHeads) * headSize
  const kvHead = Math.floor(head / (heads / kvHeads))
  const vector = (row: number, index: number) =>
    qkv.subarray(row * rowSize + index * headSize, row * rowSize + (index + 1) * headSize)
  const query = vector(token, head)
  const scores = Float64Array.from({ length: end - begin }, (_, i) => {
    const key = vector(begin + i, heads + kvHead)
    let sum = 0
    for (let d = 0; d < headSize; d++) sum += query[d]! * key[d]!
    return sum / Math.sqrt(headSize)
  })
  const highest = scores.reduce((a, b) => Math.max(a, b))
  const weights = scores.map((score) => Math.exp(score - highest))
  const total = weights.reduce((a, b) => a + b)
  const out = new Float64Array(headSize)
  for (const [i, weight] of weights.entries()) {
    const value = vector(begin + i, heads + kvHeads + kvHead)
    for (let d = 0; d < headSize; d++) out[d]! += (weight / total) * value[d]!
  }
  return out
}

function allPlaces(tokens: number, heads: number): [token: number, head: number][] {
  return Array.from({ length: tokens * heads }, (_, i) => [Math.floor(i / heads), i % heads])
}

/** With the first and the last token. */
function somePlaces(tokens: number, heads: number, count: number): [token: number, head: number][] {
  const random = makeRandom(7)
  const pick = (limit: number) => Math.floor(random() * limit)
  const places = Array.from({ length: count }, (): [number, number] => [pick(tokens), pick(heads)])
  return [[0, 0], [tokens - 1, heads - 1], ...places]
}

/** Lognormal, median 96, sigma 0.8, at most 512: like real texts. */
function makeLengths(count: number): number[] {
  const random = makeRandom(11)
  return Array.from({ length: count }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
    return Math.min(512, Math.max(1, Math.round(96 * Math.exp(0.8 * normal))))
  })
}
