// cuBLASLt's algorithms on this GPU: the products of a model, every candidate timed with nothing in the L2 cache.
//   node benchmarks/gpu/matmul.mjs [--rows 16,128,512,4096,16384] [--precision bf16,fp8,fp8-rowwise] [--hidden 2560]
//     [--intermediate 9728] [--heads 32] [--kv-heads 8] [--head-size 128] [--layers 36] [--rounds 5] [--cache FOLDER]
//     [--gpu 0] [--out FILE]
// Defaults: Qwen3-Embedding-4B. Operands are random: zeros are up to 20 % faster. With --cache a second run reads what the
// first found. Needs dist/, an NVIDIA driver, NVRTC and cuBLASLt. Prints a table, then one JSON line; a product that the GPU
// does not support is a line that says so.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { KernelBench } from '../../dist/engines/cuda/checks/kernel-bench.js'
import { makeNormalBf16, makeRandom } from '../../dist/engines/cuda/checks/random-values.js'
import { KernelLoader } from '../../dist/engines/cuda/kernels/kernel-loader.js'
import { DiskCache } from '../../dist/hardware/gpu/disk-cache.js'
import { Matmul } from '../../dist/hardware/gpu/matmul.js'
import { searchAlgorithm } from '../../dist/hardware/gpu/matmul-search.js'
import { openNative } from './open-native.mjs'

const { values: flags } = parseArgs({
  options: {
    rows: { type: 'string', default: '16,128,512,4096,16384' },
    precision: { type: 'string', default: 'bf16,fp8,fp8-rowwise' },
    hidden: { type: 'string', default: '2560' },
    intermediate: { type: 'string', default: '9728' },
    heads: { type: 'string', default: '32' },
    'kv-heads': { type: 'string', default: '8' },
    'head-size': { type: 'string', default: '128' },
    layers: { type: 'string', default: '36' },
    rounds: { type: 'string', default: '5' },
    cache: { type: 'string' },
    gpu: { type: 'string', default: '0' },
    out: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.log('see the head of benchmarks/gpu/matmul.mjs')
  process.exit(0)
}
const number = (name) => Number(flags[name])
const attention = number('heads') * number('head-size')
const products = [
  { name: 'qkv', inner: number('hidden'), columns: attention + 2 * number('kv-heads') * number('head-size') },
  { name: 'output', inner: attention, columns: number('hidden') },
  { name: 'gate+up', inner: number('hidden'), columns: 2 * number('intermediate') },
  { name: 'down', inner: number('intermediate'), columns: number('hidden') },
]

const { gpu, compiler, matmul: library, machine } = await openNative(flags)
if (library === undefined) throw new Error('cuBLASLt was not found: set LD_LIBRARY_PATH to its folder')
const cache = flags.cache === undefined ? {} : { cache: new DiskCache(flags.cache) }
const loader = new KernelLoader(gpu, compiler)
console.log(
  Object.entries(machine)
    .map(([key, value]) => `${key} ${value}`)
    .join(', '),
)

const results = []
for (const precision of flags.precision.split(',')) {
  for (const rows of flags.rows.split(',').map(Number)) {
    let layerUs = 0
    let firstChoiceUs = 0
    let flops = 0
    for (const product of products) {
      const found = await search(precision, rows, product)
      results.push({ precision, rows, ...product, ...found })
      if (found.error !== undefined) {
        console.log(`${precision} ${rows} x ${product.name}: ${found.error}`)
        layerUs = Number.NaN
        continue
      }
      layerUs += found.medianUs
      firstChoiceUs += found.firstChoiceUs
      flops += 2 * rows * product.columns * product.inner
      console.log(
        `${precision} ${rows} x ${product.name}: ${found.medianUs.toFixed(1)} us, ${found.tflops.toFixed(0)} TFLOPS; best of ${found.candidates}, the first choice ${found.firstChoiceUs.toFixed(1)} us; searched in ${found.searchMs.toFixed(0)} ms`,
      )
    }
    const layers = number('layers')
    console.log(
      `${precision} ${rows} tokens, ${layers} layers: ${((layers * layerUs) / 1e3).toFixed(2)} ms (first choices ${((layers * firstChoiceUs) / 1e3).toFixed(2)} ms), ${(flops / layerUs / 1e6).toFixed(0)} TFLOPS`,
    )
  }
}
const record = JSON.stringify({
  command: ['node', 'benchmarks/gpu/matmul.mjs', ...process.argv.slice(2)].join(' '),
  date: new Date().toISOString(),
  commit: process.env.COMMIT,
  node: process.version,
  machine,
  results,
})
if (flags.out !== undefined) writeFileSync(flags.out, `${record}\n`)
console.log(record)
process.exit(0)

async function search(precision, rows, { inner, columns }) {
  const bench = new KernelBench(loader, { rounds: 0 })
  try {
    const matmul = new Matmul(library, { precision, rows, columns, inner, accumulate: false })
    const operands = {
      a: bench.upload(randomOperand(precision, rows * inner, 1)),
      b: bench.upload(randomOperand(precision, columns * inner, 2)),
      d: bench.output(rows * columns * 2),
      ...(precision === 'bf16'
        ? {}
        : {
            aScale: bench.upload(new Float32Array(rows).fill(0.01)),
            bScale: bench.upload(new Float32Array(columns).fill(0.01)),
          }),
    }
    const from = performance.now()
    const found = await searchAlgorithm(matmul, {
      stream: bench.stream,
      operands,
      rounds: number('rounds'),
      ...cache,
    })
    const searchMs = performance.now() - from
    matmul[Symbol.dispose]()
    const { medianUs, firstChoiceUs, candidates } = found
    const tflops = (2 * rows * columns * inner) / medianUs / 1e6
    return { medianUs, firstChoiceUs, candidates, tflops, searchMs }
  } catch (error) {
    return { error: String(error) }
  } finally {
    bench[Symbol.dispose]()
  }
}

/** Normal bf16, or E4M3 of every exponent but the largest. */
function randomOperand(precision, count, seed) {
  if (precision === 'bf16') return makeNormalBf16(count, seed)
  const random = makeRandom(seed)
  const fresh = Uint8Array.from(
    { length: Math.min(count, 1_000_003) },
    () => (Math.floor(random() * 256) & 0xf7) % 248,
  )
  const bits = new Uint8Array(count)
  for (let at = 0; at < count; at += fresh.length)
    bits.set(fresh.subarray(0, Math.min(fresh.length, count - at)), at)
  return bits
}
