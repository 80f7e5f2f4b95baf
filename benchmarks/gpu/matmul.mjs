// cuBLASLt's algorithms on this GPU: the products of a model, every candidate timed with nothing in the L2 cache. For each
// product: cuBLASLt's first choice, the best of the first 8 and of the first 64 that it names, and the best that is found
// beside those by changing tile, stages, cluster and split (--wide-ms a product), with its configuration.
//   node benchmarks/gpu/matmul.mjs [--rows 1,16,128,512,4096] [--precision fp8] [--wide-ms 800] [--limit-s 55] [--hidden 2560]
//     [--intermediate 9728] [--heads 32] [--kv-heads 8] [--head-size 128] [--layers 36] [--rounds 5] [--near] [--gpu 0]
//     [--out FILE]
// With --near: other numbers of rows (default 256 to 3968) with cuBLASLt's first choice, with what was found for 128, 512 and
// 4096 rows (as the engine searches), and with the best of those that it names for them; a line a number of rows.
// Defaults: Qwen3-Embedding-4B; the engine itself searches 300 ms wide for 65 to 512 rows. Operands are random: zeros are up
// to 20 % faster. Products that are not begun within --limit-s seconds are left out and named. Needs dist/, an NVIDIA driver,
// NVRTC and cuBLASLt. Prints a table, then one JSON line; a product that the GPU does not support is a line that says so.
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { KernelBench } from '../../dist/engines/cuda/checks/kernel-bench.js'
import { makeNormalBf16, makeRandom } from '../../dist/engines/cuda/checks/random-values.js'
import { KernelLoader } from '../../dist/engines/cuda/kernels/kernel-loader.js'
import { Matmul } from '../../dist/hardware/gpu/matmul.js'
import { fastest, medianOf, runs, toCandidate } from '../../dist/hardware/gpu/matmul-candidate.js'
import { chooseAlgorithms, searchAlgorithms, timeCandidates } from '../../dist/hardware/gpu/matmul-search.js'
import { MatmulTimer } from '../../dist/hardware/gpu/matmul-timer.js'
import { readConfig } from '../../dist/hardware/gpu/matmul-variants.js'
import { openNative } from './open-native.mjs'

const { values: flags } = parseArgs({
  options: {
    rows: { type: 'string' },
    near: { type: 'boolean', default: false },
    precision: { type: 'string', default: 'fp8' },
    'wide-ms': { type: 'string', default: '800' },
    'limit-s': { type: 'string', default: '55' },
    hidden: { type: 'string', default: '2560' },
    intermediate: { type: 'string', default: '9728' },
    heads: { type: 'string', default: '32' },
    'kv-heads': { type: 'string', default: '8' },
    'head-size': { type: 'string', default: '128' },
    layers: { type: 'string', default: '36' },
    rounds: { type: 'string', default: '5' },
    gpu: { type: 'string', default: '0' },
    out: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  const head = readFileSync(new URL(import.meta.url), 'utf8').split('\nimport ')[0]
  console.log(head.replaceAll(/^\/\/ ?/gm, ''))
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
const rowCounts = (flags.rows ?? (flags.near ? '256,384,640,1024,1536,2048,3072,3968' : '1,16,128,512,4096'))
  .split(',')
  .map(Number)
/** That --near takes algorithms from. */
const searchedRows = [128, 512, 4096]
/** Of the results: how they were found. */
const ways = ['firstUs', 'of8Us', 'of64Us', 'wideUs']

const { gpu, compiler, matmul: library, machine } = await openNative(flags)
if (library === undefined) throw new Error('cuBLASLt was not found: set LD_LIBRARY_PATH to its folder')
const loader = new KernelLoader(gpu, compiler)
console.log(
  Object.entries(machine)
    .map(([key, value]) => `${key} ${value}`)
    .join(', '),
)

const usedMib = () => {
  const { freeBytes, totalBytes } = gpu.readMemory()
  return Math.round((totalBytes - freeBytes) / 2 ** 20)
}
const usedBeforeMib = usedMib()
const results = []
const layers = []
const left = []
for (const precision of flags.precision.split(',')) await (flags.near ? compareNear : compareWays)(precision)
// Kernels stay on the GPU once one was tried.
const kernelsMib = usedMib() - usedBeforeMib
console.log(`all that were tried take ${kernelsMib} MiB more of the GPU`)
if (left.length > 0) console.log(`not begun within ${flags['limit-s']} s: ${left.join(', ')}`)
const record = JSON.stringify({
  command: ['node', 'benchmarks/gpu/matmul.mjs', ...process.argv.slice(2)].join(' '),
  date: new Date().toISOString(),
  commit: process.env.COMMIT,
  node: process.version,
  machine,
  results,
  layers,
  kernelsMib,
  left,
})
if (flags.out !== undefined) writeFileSync(flags.out, `${record}\n`)
console.log(record)
process.exit(0)

/** How each product is found. */
async function compareWays(precision) {
  for (const rows of rowCounts) {
    const found = []
    for (const product of products) {
      if (performance.now() > number('limit-s') * 1000) {
        left.push(`${precision} ${rows} x ${product.name}`)
        continue
      }
      const result = { precision, rows, ...product, ...(await search(precision, rows, product)) }
      results.push(result)
      found.push(result)
      console.log(describe(result))
    }
    if (found.length < products.length || found.some(({ error }) => error !== undefined)) continue
    const layer = Object.fromEntries(
      ways.map((way) => [way, found.reduce((sum, each) => sum + each[way], 0)]),
    )
    layers.push({ precision, rows, ...layer })
    const ms = ways.map((way) => ((number('layers') * layer[way]) / 1e3).toFixed(3)).join(' / ')
    console.log(`${precision} ${rows} rows, ${number('layers')} layers: first / of 8 / of 64 / wide ${ms} ms`)
  }
}

async function search(precision, rows, product) {
  return withProduct(precision, rows, product, async (matmul, options) => {
    const { columns, inner } = product
    const from = performance.now()
    const timed = await timeCandidates(matmul, { ...options, wideMs: number('wide-ms') })
    const searchMs = performance.now() - from
    const bestOf = (count) =>
      medianOf(
        fastest(
          timed.named.filter(({ rank }) => rank < count),
          1,
        )[0],
      )
    const [chosen, ...others] = await chooseAlgorithms(matmul, timed, options)
    const [finalist] = fastest(timed.finalists, 1)
    return {
      firstUs: medianOf(timed.named[0]),
      of8Us: bestOf(8),
      of64Us: bestOf(64),
      wideUs: chosen.medianUs,
      named: timed.named.length,
      tried: timed.triedCount,
      config: readConfig(matmul, chosen),
      // Of a graph: more than 1 where a memset or a reduction goes with it, which costs a pause.
      nodes: chosen.nodes,
      // What the engine tries in a whole pass beside it.
      others: others.map(({ medianUs, nodes }) => ({ medianUs, nodes })),
      workspaceBytes: chosen.workspaceBytes,
      // A faster one that gives another product is not taken.
      wrongUs:
        finalist !== undefined && medianOf(finalist) < chosen.medianUs ? medianOf(finalist) : undefined,
      bytesPerSecond: (columns * inner * (precision === 'bf16' ? 2 : 1)) / (chosen.medianUs / 1e6),
      tflops: (2 * rows * columns * inner) / chosen.medianUs / 1e6,
      searchMs,
    }
  })
}

/** Rows that were not searched for. */
async function compareNear(precision) {
  const found = []
  for (const product of products) {
    const of = []
    for (const rows of searchedRows) {
      const [algorithm] = await withProduct(precision, rows, product, searchAlgorithms)
      of.push({ rows, algorithm })
    }
    found.push(of)
  }
  for (const rows of rowCounts) {
    if (performance.now() > number('limit-s') * 1000) {
      left.push(`${precision} ${rows}`)
      continue
    }
    const timed = []
    for (const [i, product] of products.entries()) {
      const us = await withProduct(precision, rows, product, (matmul, options) =>
        timeNear(matmul, options, found[i]),
      )
      timed.push(us)
      results.push({ precision, rows, ...product, ...us })
    }
    // Where an algorithm cannot run this the engine takes the first choice.
    const ms = (pick) =>
      (number('layers') * timed.reduce((sum, each) => sum + (pick(each) ?? each.firstUs), 0)) / 1e3
    const layer = {
      firstMs: ms(({ firstUs }) => firstUs),
      ...Object.fromEntries(searchedRows.map((of) => [`of${of}Ms`, ms((each) => each[`of${of}Us`])])),
      // What the engine takes: of each product the fastest of the first choice and of what was found for other rows.
      chosenMs: ms(({ firstUs, ...each }) =>
        Math.min(firstUs, ...searchedRows.map((of) => each[`of${of}Us`] ?? Infinity)),
      ),
      bestMs: ms(({ bestUs }) => bestUs),
    }
    layers.push({ precision, rows, ...layer })
    const others = searchedRows.map((of) => `of ${of} ${layer[`of${of}Ms`].toFixed(3)}`).join(', ')
    console.log(
      `${precision} ${rows} rows, ${number('layers')} layers: first choice ${layer.firstMs.toFixed(3)} ms, the fastest of it and of what was found for others ${layer.chosenMs.toFixed(3)}, best named ${layer.bestMs.toFixed(3)}; ${others}`,
    )
  }
}

/** In turn: all that cuBLASLt names for these rows, and what was found for others where it can run this. */
async function timeNear(matmul, { stream, operands, rounds }, found) {
  const named = matmul.heuristics(operands, 64).map((algorithm, rank) => toCandidate(algorithm, rank))
  const others = found.flatMap(({ rows, algorithm }) => {
    const checked = matmul.check(algorithm.bytes)
    return checked === undefined ? [] : [{ rows, candidate: toCandidate(checked, undefined) }]
  })
  const timer = new MatmulTimer(matmul, stream, operands)
  const all = [...named, ...others.map(({ candidate }) => candidate)]
  await timer.time(all, { isWarmUp: true })
  for (let round = 0; round < rounds; round++) await timer.time(all.filter(runs))
  await stream.idle()
  timer[Symbol.dispose]()
  return {
    firstUs: medianOf(named.find(runs)),
    bestUs: medianOf(fastest(named, 1)[0]),
    ...Object.fromEntries(
      others
        .filter(({ candidate }) => runs(candidate))
        .map(({ rows, candidate }) => [`of${rows}Us`, medianOf(candidate)]),
    ),
  }
}

/** With random operands. */
async function withProduct(precision, rows, { inner, columns }, use) {
  const bench = new KernelBench(loader, { rounds: 0 })
  const matmul = new Matmul(library, { precision, rows, columns, inner, accumulate: false })
  try {
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
    return await use(matmul, { stream: bench.stream, operands, rounds: number('rounds') })
  } catch (error) {
    if (flags.near) throw error
    return { error: String(error) }
  } finally {
    matmul[Symbol.dispose]()
    bench[Symbol.dispose]()
  }
}

function describe({ precision, rows, name, error, ...found }) {
  if (error !== undefined) return `${precision} ${rows} x ${name}: ${error}`
  const us = ways.map((way) => found[way].toFixed(1)).join(' / ')
  const config = Object.entries(found.config)
    .map((each) => each.join(' '))
    .join(', ')
  const wrong = found.wrongUs === undefined ? '' : `; A WRONG ONE TOOK ${found.wrongUs.toFixed(1)} us`
  return `${precision} ${rows} x ${name}: first / of 8 / of ${found.named} / wide ${us} us, ${(found.bytesPerSecond / 1e9).toFixed(0)} GB/s of weights, ${found.tflops.toFixed(0)} TFLOPS; ${found.tried} tried in ${found.searchMs.toFixed(0)} ms: nodes ${found.nodes}, ${config}${wrong}`
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
