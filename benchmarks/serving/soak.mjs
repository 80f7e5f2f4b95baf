// Whether memory or descriptors grow while texts of every length come for minutes.
//   node benchmarks/serving/soak.mjs [--warmup-minutes 4] [--minutes 10] [--clients 8 | --rate 100] [--out FILE]
//     [-- any flag of `serve`]
// Real lengths and a long text, new connections for a part of the requests, cancels, refused bodies. The slopes are fitted to the
// samples after the warm-up, in which the engine meets most of the shapes that it keeps kernels for, and the heaps grow
// to what the load needs. --rate sends so many requests a second instead of as many as the clients can: a server that gets
// its CPU by fits and starts shrinks and grows its heap with them, so a shared machine needs a rate that it always keeps.
// Prints a table, then one JSON line.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { runClosedLoop } from '../cpu/load-client.mjs'
import { realLengths } from '../cpu/texts.mjs'
import { describeRun } from '../describe-run.mjs'
import { runOpenLoop } from './open-loop-client.mjs'
import { makeBodies, startServer } from './start-server.mjs'

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'warmup-minutes': { type: 'string', default: '4' },
    minutes: { type: 'string', default: '10' },
    clients: { type: 'string', default: '8' },
    rate: { type: 'string' },
    out: { type: 'string' },
  },
})
const minutes = Number(flags.minutes)
const warmupMinutes = Number(flags['warmup-minutes'])
const bodies = [
  ...(await makeBodies(realLengths(1000))),
  // For the tokenizer's thread.
  JSON.stringify({ inputs: 'a text that is cut '.repeat(500), truncate: true }),
  '{"inputs": ""}',
  '{"inputs": 5}',
  'no JSON',
]
const server = await startServer(positionals, 7873)
const samples = []
let requests = 0
let refused = 0
const startMs = performance.now()
try {
  while (performance.now() - startMs < (warmupMinutes + minutes) * 60_000) {
    // Ten seconds a turn: each opens connections anew.
    const leaving = leaveEarly(server.port, bodies[0])
    const result = await runTurn()
    await leaving
    requests += result.requests
    refused += result.refused
    samples.push({
      minutes: (performance.now() - startMs) / 60_000,
      rssMiB: server.rssMiB(),
      descriptors: server.descriptors(),
      requests,
    })
    console.error(JSON.stringify(samples.at(-1)))
  }
} finally {
  await server.stop()
}
const steady = samples.filter((sample) => sample.minutes > warmupMinutes)
const record = {
  ...describeRun(
    ['node benchmarks/serving/soak.mjs', ...process.argv.slice(2)]
      .filter((word, i, words) => word !== '--out' && words[i - 1] !== '--out')
      .join(' '),
  ),
  warmupMinutes,
  requestsAfterWarmup:
    requests - (samples.findLast((sample) => sample.minutes <= warmupMinutes)?.requests ?? 0),
  requests,
  refused,
  rssSlopeMiBPerMinute: slope(steady.map(({ minutes: x, rssMiB: y }) => [x, y])),
  descriptorSlopePerMinute: slope(steady.map(({ minutes: x, descriptors: y }) => [x, y])),
  samples,
}
console.log(
  [
    `requests         ${requests}, refused as they should ${refused}`,
    `RSS              ${steady[0].rssMiB.toFixed(0)} -> ${steady.at(-1).rssMiB.toFixed(0)} MiB, ${record.rssSlopeMiBPerMinute.toFixed(2)} MiB a minute`,
    `descriptors      ${steady[0].descriptors} -> ${steady.at(-1).descriptors}, ${record.descriptorSlopePerMinute.toFixed(2)} a minute`,
  ].join('\n'),
)
if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(record, null, 1)}\n`)
console.log(JSON.stringify(record))

/** Goes on with the bodies where the turn before has ended. */
async function runTurn() {
  const from = (requests + refused) % bodies.length
  const turn = {
    port: server.port,
    path: '/embed',
    bodies: [...bodies.slice(from), ...bodies.slice(0, from)],
    durationMs: 10_000,
  }
  if (flags.rate === undefined) {
    const { requests: answered, errors } = await runClosedLoop({ ...turn, clients: Number(flags.clients) })
    return { requests: answered, refused: errors }
  }
  const { byStatus, failures } = await runOpenLoop({ ...turn, requestsPerSecond: Number(flags.rate) })
  const { 200: answered = 0, ...others } = byStatus
  return { requests: answered, refused: failures + Object.values(others).reduce((sum, n) => sum + n, 0) }
}

/** Clients that go away before they are answered. */
async function leaveEarly(port, body) {
  for (let i = 0; i < 50; i++) {
    await fetch(`http://127.0.0.1:${port}/embed`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
      signal: AbortSignal.timeout(3),
    }).then(
      (answer) => answer.arrayBuffer(),
      () => undefined,
    )
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

/** Least squares. */
function slope(points) {
  const meanX = mean(points.map(([x]) => x))
  const meanY = mean(points.map(([, y]) => y))
  const covariance = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0)
  return covariance / points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0)
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
