import { type KernelBench, type KernelCheck } from '../checks/kernel-bench.ts'
import { e4m3Max, fromBf16, fromE4m3, toBf16 } from '../checks/number-formats.ts'
import { makeNormalBf16, makeRandom } from '../checks/random-values.ts'
import {
  type AttentionTuning,
  type FlashAttentionOptions,
  flashAttentionVariant,
  loadFlashAttention,
  makeAttentionTiles,
  portableTuning,
} from './flash-attention.ts'
import { rotate } from './qk-norm-rope.check.ts'
import { makeRotation } from './qk-norm-rope.ts'

const qwen4b = { heads: 32, kvHeads: 8, headSize: 128, isCausal: true }
const minilm = { heads: 12, kvHeads: 12, headSize: 32, isCausal: false }
const bgeLarge = { heads: 16, kvHeads: 16, headSize: 64, isCausal: false }
const rope = { epsilon: 1e-6 }
/** As the layers of Qwen3 have it at FP8. */
const fused = { ...qwen4b, rope, output: 'fp8' } as const
const outputScale = 2 / e4m3Max

const portable = portableTuning
/** What a GPU is asked to choose from: benchmarks/gpu/kernels.mjs --variants flash-attention. */
export const attentionTunings: Readonly<Record<string, AttentionTuning>> = {
  portable,
  'portable, a head a block': { ...portable, maxGroup: 1 },
  'portable, 3 blocks': { ...portable, minBlocks: 3 },
  'portable, 8 warps': { ...portable, warps: 8, minBlocks: 1 },
}

/** Each at the shapes of Qwen3-Embedding-4B, to be timed beside the others. */
export function makeAttentionVariantChecks(): KernelCheck[] {
  const shapes = [times(1, 16), times(1, 128), times(1, 512), times(8, 512), times(32, 512), times(128, 128)]
  return Object.entries(attentionTunings).flatMap(([name, tuning]) =>
    shapes.map((lengths) => check(lengths, { ...fused, tuning }, name)),
  )
}

export const flashAttentionChecks: readonly KernelCheck[] = [
  // Around the edges of tiles of 64: one token, one tile, one more.
  check([1, 64, 65, 130], { heads: 2, kvHeads: 1, headSize: 128, isCausal: true }),
  check([1, 64, 65, 130], { heads: 2, kvHeads: 2, headSize: 64, isCausal: false }),
  check([3, 17, 128, 63], { heads: 3, kvHeads: 1, headSize: 32, isCausal: true }),
  check([200, 2], { heads: 1, kvHeads: 1, headSize: 32, isCausal: false }),
  check([1, 16, 17, 66], { heads: 4, kvHeads: 1, headSize: 128, isCausal: true, rope }),
  check([5, 70], { heads: 4, kvHeads: 2, headSize: 64, isCausal: true, rope, output: 'fp8' }),
  check([40], { heads: 2, kvHeads: 1, headSize: 32, isCausal: true, rope, output: 'fp8' }),
  ...Object.entries(attentionTunings).map(([name, tuning]) =>
    check(
      [1, 16, 65, 140],
      { heads: 4, kvHeads: 1, headSize: 128, isCausal: true, rope, output: 'fp8', tuning },
      name,
    ),
  ),
  check(times(1, 512), qwen4b),
  check(times(8, 512), qwen4b),
  check(times(32, 512), qwen4b),
  check(times(32, 512), fused),
  check([16_384], qwen4b),
  check(makeLengths(128), qwen4b),
  check(times(64, 256), minilm),
  check(times(32, 512), bgeLarge),
]

function times(count: number, length: number): number[] {
  return Array.from({ length: count }, () => length)
}

function check(lengths: readonly number[], options: FlashAttentionOptions, variant = ''): KernelCheck {
  const { heads, kvHeads, headSize, isCausal, output: form = 'bf16' } = options
  const tokens = lengths.reduce((sum, length) => sum + length, 0)
  const isSmall = tokens * heads < 1024
  const range = [...new Set([Math.min(...lengths), Math.max(...lengths)])].join('-')
  const notes = [
    `${heads}/${kvHeads} x ${headSize}`,
    isCausal ? 'causal' : 'both ways',
    ...(options.rope === undefined ? [] : ['rope']),
    ...(form === 'bf16' ? [] : [form]),
    ...(variant === '' ? [] : [variant]),
  ]
  const { minArchitecture } = flashAttentionVariant(options)
  return {
    name: `flash_attention ${lengths.length} x ${range}, ${notes.join(', ')}`,
    size: isSmall ? 'small' : 'real',
    minArchitecture,
    run: async (bench) => {
      const rowSize = (heads + 2 * kvHeads) * headSize
      const count = tokens * heads * headSize
      const qkv = makeNormalBf16(tokens * rowSize, 1)
      const cumulativeLengths = new Int32Array(lengths.length + 1)
      for (const [i, length] of lengths.entries()) cumulativeLengths[i + 1] = cumulativeLengths[i]! + length
      const { queries, launch } = await loadFlashAttention(bench.loader, options)
      const tileCount = makeAttentionTiles(cumulativeLengths, { isCausal, queries }).length / 4 + 1
      const tiles = makeAttentionTiles(cumulativeLengths, { isCausal, queries, tileCount })
      const output = bench.output(count * (form === 'fp8' ? 1 : 2))
      const gamma = makeNormalBf16(headSize, 2)
      const args = {
        qkv: bench.upload(qkv),
        output,
        scale: bench.upload(Float32Array.of(outputScale)),
        tiles: bench.upload(tiles),
        tileCount,
        positions: bench.upload(Int32Array.from(lengths.flatMap((length) => [...Array(length).keys()]))),
        rotation: bench.upload(makeRotation(Math.max(...lengths), headSize, theta)),
        queryGamma: bench.upload(gamma),
      }
      const run = () => launch(bench.stream, args)
      run()
      const actual = await read(bench, args.output, { count, form })
      const values = fromBf16(qkv)
      const places = isSmall ? allPlaces(tokens, heads) : somePlaces(tokens, heads, 200)
      const found: number[] = []
      const expected: number[] = []
      for (const [token, head] of places) {
        const sequence = cumulativeLengths.findIndex((end) => end > token) - 1
        const begin = cumulativeLengths[sequence]!
        const end = isCausal ? token + 1 : cumulativeLengths[sequence + 1]!
        expected.push(...attend(values, options, { token, head, begin, end, gamma: fromBf16(gamma) }))
        const at = (token * heads + head) * headSize
        found.push(...actual.subarray(at, at + headSize))
      }
      // Weights are rounded to bf16 before they meet the values; half a step of E4M3's three bits of mantissa.
      const tolerance = { absolute: 8e-3, relative: 2 ** -6 }
      bench.compare(
        'output',
        found,
        form === 'fp8' ? expected.map(saturate) : expected,
        form === 'fp8' ? { ...tolerance, relative: 2 ** -4 + 2 ** -6 } : tolerance,
      )
      const unwritten = actual.reduce((sum, value) => sum + Number(Number.isNaN(value)), 0)
      bench.compare('rows without a value', [unwritten], [0], { absolute: 0.5, relative: 0 })
      const pairs = lengths.reduce(
        (sum, length) => sum + (isCausal ? (length * (length + 1)) / 2 : length ** 2),
        0,
      )
      await bench.measure(run, {
        bytes: tokens * rowSize * 2 + count * (form === 'fp8' ? 1 : 2),
        flops: 4 * pairs * heads * headSize,
      })
    },
  }
}

const theta = 1e6

async function read(
  bench: KernelBench,
  output: Parameters<KernelBench['download']>[0],
  { count, form }: { readonly count: number; readonly form: 'bf16' | 'fp8' },
): Promise<Float32Array> {
  if (form === 'bf16') return fromBf16(await bench.download(output, new Uint16Array(count)))
  return fromE4m3(await bench.download(output, new Uint8Array(count))).map((value) => value * outputScale)
}

function saturate(value: number): number {
  const limit = e4m3Max * outputScale
  return Math.min(Math.max(value, -limit), limit)
}

interface Place {
  readonly token: number
  readonly head: number
  readonly begin: number
  readonly end: number
  readonly gamma: Float32Array
}

/** One query in f64. */
function attend(
  qkv: Float32Array,
  { heads, kvHeads, headSize, rope: withRope }: FlashAttentionOptions,
  { token, head, begin, end, gamma }: Place,
): Float64Array {
  const rowSize = (heads + 2 * kvHeads) * headSize
  const kvHead = Math.floor(head / (heads / kvHeads))
  const vector = (row: number, index: number) =>
    qkv.subarray(row * rowSize + index * headSize, row * rowSize + (index + 1) * headSize)
  let query = Float64Array.from(vector(token, head))
  if (withRope !== undefined) {
    rotate(query, token - begin, gamma)
    query = Float64Array.from(fromBf16(toBf16(query)))
  }
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
