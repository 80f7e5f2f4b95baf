// A/A: what the tuner finds between two sides of the same configuration. It should find nothing.
const usage = `node benchmarks/tuning/equal-sides.mjs [--settings JSON | --tuned FILE] [--pairs 16] [--runs 3] [--out FILE]

One side works for 30 rounds, then a second one of the same configuration starts beside it, and both are measured in turn as the
tuner measures incumbent and candidate: through its own side processes, in pairs of rounds. Once a run, with a fresh second side.
A ratio that leaves 1 in its first pairs is a side that counts before it is warm.

  --settings JSON   keys and values of the configuration (default {"engine":"onnx","precision":"fp32"})
  --tuned FILE      those of a tuned.json instead
  --model NAME      default: the one of the tuned file, else the package's default
  --clients N,...   closed loops (default 1,4,16)     --round-ms MS   length of a round (default 200)
  --pairs N         a run, 8 at least (default 16)    --runs N        default 3
  --out FILE        keep the record

Prints a table, then one JSON line.`
import { readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { parseArgs } from 'node:util'
import { defaultCacheDir } from '../../dist/model/cache-dir.js'
import { meanLogRatio } from '../../dist/tuning/tuner/experiment.js'
import { createSideStarter } from '../../dist/tuning/tuner/side-process.js'
import { signedRankInterval } from '../../dist/tuning/tuner/signed-rank.js'
import { describeRun } from '../describe-run.mjs'

const { values: flags } = parseArgs({
  options: {
    settings: { type: 'string', default: '{"engine":"onnx","precision":"fp32"}' },
    tuned: { type: 'string' },
    model: { type: 'string' },
    clients: { type: 'string', default: '1,4,16' },
    'round-ms': { type: 'string', default: '200' },
    pairs: { type: 'string', default: '16' },
    runs: { type: 'string', default: '3' },
    out: { type: 'string' },
    help: { type: 'boolean' },
  },
})
if (flags.help) {
  console.log(usage)
  process.exit(0)
}
const firstPairs = 8
const pairs = Number(flags.pairs)
if (!(pairs >= firstPairs)) throw new Error(`--pairs is ${flags.pairs}; it takes ${firstPairs} at least`)
const settings =
  flags.tuned === undefined
    ? JSON.parse(flags.settings)
    : JSON.parse(readFileSync(flags.tuned, 'utf8')).settings
const start = createSideStarter({
  shared: flags.model === undefined ? {} : { model: flags.model },
  cacheDir: defaultCacheDir(process.env, homedir()),
  clients: flags.clients.split(',').map(Number),
  roundMs: Number(flags['round-ms']),
  qualityTexts: 64,
})
const before = describeRun(['node benchmarks/tuning/equal-sides.mjs', ...process.argv.slice(2)].join(' '))

const incumbent = await start(settings)
for (let round = 0; round < 30; round++) await incumbent.measure()
const runs = []
for (let run = 0; run < Number(flags.runs); run++) {
  const candidate = await start(settings)
  const logs = []
  for (let pair = 0; pair < pairs; pair++) logs.push(await measurePair(candidate, pair))
  await candidate[Symbol.asyncDispose]()
  runs.push({
    first: toRatio(logs.slice(0, firstPairs)),
    ...(pairs > firstPairs ? { later: toRatio(logs.slice(firstPairs)) } : {}),
    all: toRatio(logs),
    logs,
  })
  const { first, later, all } = runs.at(-1)
  console.log(
    `run ${run + 1}   pairs 1-${firstPairs} ${format(first)}${later === undefined ? '' : `   later ${format(later)}`}   all ${format(all)}`,
  )
}
await incumbent[Symbol.asyncDispose]()

const overall = toRatio(runs.flatMap(({ logs }) => logs))
const { engine, precision } = incumbent.info
console.log(
  `\n${engine} ${precision}, candidate by an equal incumbent, texts/s: ${format(overall)} over ${runs.length} runs of ${pairs} pairs: ${
    overall.low <= 1 && overall.high >= 1
      ? 'no difference, as it should be'
      : 'BIASED: the interval leaves 1 out'
  }`,
)
const model = flags.model ?? settings.model ?? before.model
const record = { ...before, model, settings, clients: flags.clients, pairs, overall, runs }
if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(record, null, 1)}\n`)
console.log(JSON.stringify(record))

/** The first of a pair alternates, as in the tuner. @returns log of candidate / incumbent */
async function measurePair(candidate, pair) {
  const order = pair % 2 === 1 ? [candidate, incumbent] : [incumbent, candidate]
  const slices = new Map()
  for (const side of order) slices.set(side, await side.measure())
  return meanLogRatio(slices.get(candidate), slices.get(incumbent))
}

/** Pseudo-median with its 95 % interval. */
function toRatio(logs) {
  const { estimate, low, high } = signedRankInterval(logs, 0.05)
  return { ratio: Math.exp(estimate), low: Math.exp(low), high: Math.exp(high) }
}

function format({ ratio, low, high }) {
  return `${ratio.toFixed(3)} (${low.toFixed(3)}-${high.toFixed(3)})`
}
