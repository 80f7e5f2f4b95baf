// What a server does with ten times the load that it can carry.
//   node benchmarks/serving/overload.mjs [--seconds 60] [--factor 10] [--target-p95-ms 500] [--out FILE]
// Peak = closed loop of 64 clients; then an open loop of factor x peak. The client shares the machine: what it takes there
// is told, and so is what a refusal costs the thread of the server that speaks HTTP, its accepted requests taken off.
// Prints a table, then one JSON line.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { percentile, runClosedLoop } from '../cpu/load-client.mjs'
import { runOpenLoop } from './open-loop-client.mjs'
import { describeRun } from '../describe-run.mjs'
import { makeBodies, startServer } from './start-server.mjs'

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    factor: { type: 'string', default: '10' },
    'target-p95-ms': { type: 'string', default: '500' },
    out: { type: 'string' },
  },
})
const targetP95Ms = Number(flags['target-p95-ms'])
const factor = Number(flags.factor)
const bodies = await makeBodies(Array.from({ length: 64 }, () => 64))
const server = await startServer(['--target-p95-ms', flags['target-p95-ms']], 7871)
const samples = []
let record
try {
  const load = { port: server.port, path: '/embed', bodies }
  const closed = (clients = 64) => runClosedLoop({ ...load, clients, durationMs: 10_000, warmupMs: 3000 })
  const sixteen = await closed(16)
  const { averageBatchSize } = await server.stats()
  const idleUs = server.mainThreadUs()
  const before = await closed()
  // Its warm-up ran as well.
  const acceptedUs = (server.mainThreadUs() - idleUs) / (before.requests * 1.3)
  const sample = () => samples.push(Math.round(server.rssMiB()))
  sample()
  const timer = setInterval(sample, 5000)
  const clientCpu = process.cpuUsage()
  const serverCpuSeconds = server.cpuSeconds()
  const mainThreadUs = server.mainThreadUs()
  const overload = await runOpenLoop({
    ...load,
    requestsPerSecond: (before.requests * 1000 * factor) / before.elapsedMs,
    durationMs: Number(flags.seconds) * 1000,
  })
  clearInterval(timer)
  const { user, system } = process.cpuUsage(clientCpu)
  const overloadUs = server.mainThreadUs() - mainThreadUs
  const serverCpuCores = ((server.cpuSeconds() - serverCpuSeconds) * 1000) / overload.elapsedMs
  const after = await closed()
  const peak = (rate(before) + rate(after)) / 2
  const accepted = overload.latenciesMs[200] ?? []
  const goodput = (accepted.length * 1000) / overload.elapsedMs
  record = {
    ...describeRun(
      `node benchmarks/serving/overload.mjs --seconds ${flags.seconds} --factor ${factor} --target-p95-ms ${targetP95Ms}`,
    ),
    sixteenClients: { requestsPerSecond: rate(sixteen), averageBatchSize },
    peakRequestsPerSecond: { before: rate(before), after: rate(after) },
    offeredPerSecond: (overload.sent * 1000) / overload.elapsedMs,
    notSent: overload.notSent,
    goodputPerSecond: goodput,
    goodputShareOfPeak: goodput / peak,
    byStatus: overload.byStatus,
    connectionFailures: overload.failures,
    acceptedP50Ms: percentile(accepted, 0.5),
    acceptedP95Ms: percentile(accepted, 0.95),
    acceptedP99Ms: percentile(accepted, 0.99),
    refusedP95Ms: percentile(overload.latenciesMs[429] ?? [], 0.95),
    targetP95Ms,
    serverCpuCores,
    mainThreadUsPerRefusal: (overloadUs - accepted.length * acceptedUs) / overload.byStatus[429],
    clientCpuCores: (user + system) / 1000 / overload.elapsedMs,
    rssMiB: samples,
  }
} finally {
  await server.stop()
}
console.log(
  [
    `16 clients      ${record.sixteenClients.requestsPerSecond.toFixed(0)} req/s in batches of ${record.sixteenClients.averageBatchSize.toFixed(1)} on average`,
    `peak            ${record.peakRequestsPerSecond.before.toFixed(0)} req/s before, ${record.peakRequestsPerSecond.after.toFixed(0)} after`,
    `offered         ${record.offeredPerSecond.toFixed(0)} req/s, the client took ${record.clientCpuCores.toFixed(2)} cores, the server ${record.serverCpuCores.toFixed(2)}`,
    `goodput         ${record.goodputPerSecond.toFixed(0)} req/s = ${(100 * record.goodputShareOfPeak).toFixed(1)} % of peak`,
    `answers         ${JSON.stringify(record.byStatus)}, ${record.connectionFailures} connection failures`,
    `accepted        p50 ${record.acceptedP50Ms.toFixed(0)}, p95 ${record.acceptedP95Ms.toFixed(0)}, p99 ${record.acceptedP99Ms.toFixed(0)} ms; objective ${targetP95Ms} ms`,
    `refused         p95 ${record.refusedP95Ms?.toFixed(0)} ms, ${record.mainThreadUsPerRefusal.toFixed(0)} us of the main thread each`,
    `RSS MiB         ${record.rssMiB.join(' ')}`,
  ].join('\n'),
)
if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(record, null, 1)}\n`)
console.log(JSON.stringify(record))

function rate({ requests, elapsedMs }) {
  return (requests * 1000) / elapsedMs
}
