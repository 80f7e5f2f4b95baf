// What the priority lane is worth under full load.
//   node benchmarks/serving/priority.mjs [--seconds 20] [--rounds 3] [--out FILE]
// 32 clients keep the normal lane full, one client asks with x-priority: high; 64 tokens each. Beside it: the same
// client on an idle server. Prints a table, then one JSON line.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { median, percentile, runClosedLoop } from '../cpu/load-client.mjs'
import { describeRun } from '../describe-run.mjs'
import { makeBodies, startServer } from './start-server.mjs'

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    rounds: { type: 'string', default: '3' },
    out: { type: 'string' },
  },
})
const bodies = await makeBodies(Array.from({ length: 64 }, () => 64))
const server = await startServer([], 7872)
const rounds = []
try {
  const load = {
    port: server.port,
    path: '/embed',
    bodies,
    durationMs: Number(flags.seconds) * 1000,
    warmupMs: 2000,
  }
  const urgent = { ...load, clients: 1, headers: { 'x-priority': 'high' } }
  for (let round = 0; round < Number(flags.rounds); round++) {
    const idle = await runClosedLoop(urgent)
    const [normal, high] = await Promise.all([runClosedLoop({ ...load, clients: 32 }), runClosedLoop(urgent)])
    const { longestBatchMs } = await longestBatch(server)
    rounds.push({
      idleP95Ms: percentile(idle.latenciesMs, 0.95),
      highP50Ms: percentile(high.latenciesMs, 0.5),
      highP95Ms: percentile(high.latenciesMs, 0.95),
      normalP95Ms: percentile(normal.latenciesMs, 0.95),
      requestsPerSecond: ((normal.requests + high.requests) * 1000) / normal.elapsedMs,
      longestBatchMs,
    })
    console.error(`round ${round + 1}`, JSON.stringify(rounds.at(-1)))
  }
} finally {
  await server.stop()
}
const medians = Object.fromEntries(
  Object.keys(rounds[0]).map((key) => [key, median(rounds.map((round) => round[key]))]),
)
const record = {
  ...describeRun(`node benchmarks/serving/priority.mjs --seconds ${flags.seconds} --rounds ${flags.rounds}`),
  medians,
  boundMs: medians.longestBatchMs + 2 * medians.idleP95Ms,
  shareOfNormalP95: medians.highP95Ms / medians.normalP95Ms,
  rounds,
}
console.log(
  [
    `idle server      p95 ${medians.idleP95Ms.toFixed(1)} ms`,
    `priority lane    p50 ${medians.highP50Ms.toFixed(1)}, p95 ${medians.highP95Ms.toFixed(1)} ms; longest batch + 2 x idle p95 = ${record.boundMs.toFixed(1)} ms`,
    `normal lane      p95 ${medians.normalP95Ms.toFixed(1)} ms (priority has ${(100 * record.shareOfNormalP95).toFixed(0)} % of it)`,
    `both lanes       ${medians.requestsPerSecond.toFixed(0)} req/s`,
  ].join('\n'),
)
if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(record, null, 1)}\n`)
console.log(JSON.stringify(record))

/** Upper bound of the bucket of embed_inference_duration_seconds in which 99 of 100 batches ended. */
async function longestBatch({ port }) {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  const buckets = [
    ...text.matchAll(/^embed_inference_duration_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\} (\d+)/gm),
  ]
  const count = Number(buckets.at(-1)[2])
  const bucket = buckets.find(([, , inside]) => Number(inside) >= 0.99 * count)
  return { longestBatchMs: Number(bucket[1]) * 1000 }
}
