// What the metrics cost: the same server with metrics on and off in interleaved rounds, one active, the others stopped
// with SIGSTOP. The server without metrics runs twice: how far the two differ is the noise.
//   node benchmarks/serving/metrics-cost.mjs [--engine model|instant] [--rounds 15] [--seconds 2] [--clients 16]
//     [--tokens 64] [--out FILE]
// Engine 'model' is the program with its default model; 'instant' is the same server with an engine that takes no time,
// so that nothing hides the server's own work. Each round scrapes /metrics once, where it is on.
// Prints a table, then one JSON line. Linux only: CPU times come from /proc.
import { execFileSync, spawn } from 'node:child_process'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { cpus, homedir, loadavg } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { defaultCacheDir } from '../../dist/model/cache-dir.js'
import { pullModel } from '../../dist/model/pull.js'
import { createTokenizer } from '../../dist/serving/tokenizer/worker-tokenizer.js'
import { median, percentile, runClosedLoop } from '../cpu/load-client.mjs'
import { makeTexts } from '../cpu/texts.mjs'

const { values: flags } = parseArgs({
  options: {
    engine: { type: 'string', default: 'model' },
    rounds: { type: 'string', default: '15' },
    seconds: { type: 'string', default: '2' },
    clients: { type: 'string', default: '16' },
    tokens: { type: 'string', default: '64' },
    out: { type: 'string' },
  },
})
const rounds = Number(flags.rounds)
const clients = Number(flags.clients)
const durationMs = Number(flags.seconds) * 1000
const root = fileURLToPath(new URL('../..', import.meta.url))
const program =
  flags.engine === 'instant'
    ? [join(root, 'benchmarks/serving/instant-server.mjs')]
    : [join(root, 'dist/cli/main.js'), 'serve', '--quiet', '--log-level', 'error', '--port', '0']

const variants = [
  { name: 'off', flags: ['--no-metrics'] },
  { name: 'off again', flags: ['--no-metrics'] },
  { name: 'on', flags: [] },
  { name: 'on, TEI names too', flags: ['--metric-names', 'tei'] },
]

const cacheDir = defaultCacheDir(process.env, homedir())
const model = await pullModel('sentence-transformers/all-MiniLM-L6-v2', { cacheDir })
const tokenizer = await createTokenizer({
  tokenizerPath: join(model.folder, 'tokenizer.json'),
  workerCount: 0,
})
const texts = await makeTexts(tokenizer, Number(flags.tokens), 64)
await tokenizer[Symbol.asyncDispose]()
const bodies = texts.map((text) => JSON.stringify({ inputs: text }))

const servers = []
const loadBefore = loadavg()
try {
  for (const [i, variant] of variants.entries()) servers.push(await start(variant, 7830 + i))
  for (let round = 0; round < rounds; round++) {
    // The start rotates, so that no server always runs on a warm or a hot machine.
    for (let k = 0; k < servers.length; k++) {
      const server = servers[(k + round) % servers.length]
      process.kill(server.child.pid, 'SIGCONT')
      await load(server, 300)
      const before = readCpuNs(server.child.pid)
      const result = await load(server, durationMs)
      const after = readCpuNs(server.child.pid)
      process.kill(server.child.pid, 'SIGSTOP')
      server.requestsPerSecond.push((result.requests * 1000) / result.elapsedMs)
      server.p50Ms.push(percentile(result.latenciesMs, 0.5))
      server.mainThreadUs.push((after.mainThread - before.mainThread) / 1000 / result.requests)
      server.processUs.push((after.process - before.process) / 1000 / result.requests)
    }
    console.error(`round ${round + 1} of ${rounds}, load average ${loadavg()[0].toFixed(2)}`)
  }
} finally {
  for (const { child } of servers) {
    process.kill(child.pid, 'SIGCONT')
    child.kill('SIGTERM')
  }
}

const [off] = servers
const record = {
  command: `node benchmarks/serving/metrics-cost.mjs --engine ${flags.engine} --rounds ${rounds} --seconds ${flags.seconds} --clients ${clients} --tokens ${flags.tokens}`,
  date: new Date().toISOString(),
  commit: process.env.COMMIT ?? execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim(),
  cpu: `${cpus()[0].model}, ${cpus().length} cores`,
  node: process.version,
  loadAverageBefore: loadBefore,
  loadAverageAfter: loadavg(),
  rows: servers.map((server) => ({
    name: server.name,
    requestsPerSecond: summarise(server.requestsPerSecond),
    p50Ms: summarise(server.p50Ms),
    mainThreadUsPerRequest: summarise(server.mainThreadUs),
    processUsPerRequest: summarise(server.processUs),
    // The rounds are pairs: both servers ran within seconds of one another.
    throughputToOff: interval(server.requestsPerSecond.map((value, i) => value / off.requestsPerSecond[i])),
    mainThreadUsOverOff: interval(server.mainThreadUs.map((value, i) => value - off.mainThreadUs[i])),
  })),
}
printTable(record)
if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(record, null, 1)}\n`)
console.log(JSON.stringify(record))

async function start(variant, port) {
  const child = spawn(process.execPath, [...program, ...variant.flags, '--port', String(port)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const startMs = performance.now()
  while (!(await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined))?.ok) {
    if (child.exitCode !== null) throw new Error(`the server '${variant.name}' ended with ${child.exitCode}`)
    if (performance.now() - startMs > 60_000) throw new Error(`'${variant.name}' is not ready after 60 s`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const server = { ...variant, child, port, hasMetrics: !variant.flags.includes('--no-metrics') }
  await load(server, 2000)
  process.kill(child.pid, 'SIGSTOP')
  return { ...server, requestsPerSecond: [], p50Ms: [], mainThreadUs: [], processUs: [] }
}

async function load({ name, port, hasMetrics }, loadMs) {
  const scrape = hasMetrics ? fetch(`http://127.0.0.1:${port}/metrics`).then((answer) => answer.text()) : ''
  const running = runClosedLoop({ port, path: '/embed', bodies, clients, durationMs: loadMs })
  const [result, exposed] = await Promise.all([running, scrape])
  if (result.errors > 0) throw new Error(`${name}: ${result.errors} errors, first ${result.firstError}`)
  if (hasMetrics && !exposed.includes('embed_requests_total{')) throw new Error(`${name} has no metrics`)
  return result
}

/** Nanoseconds on a CPU. */
function readCpuNs(pid) {
  const ofThread = (thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0])
  const threads = readdirSync(`/proc/${pid}/task`)
  return {
    mainThread: ofThread(pid),
    process: threads.reduce((sum, thread) => sum + ofThread(thread), 0),
  }
}

function summarise(values) {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

/** Median and its 95 % bootstrap interval. */
function interval(values) {
  const draw = () => values[Math.floor(Math.random() * values.length)]
  const medians = Array.from({ length: 5000 }, () => median(values.map(draw)))
  return { median: median(values), low: percentile(medians, 0.025), high: percentile(medians, 0.975) }
}

function printTable({ rows }) {
  console.log(
    `\n${flags.engine}, ${clients} clients x ${flags.tokens} tokens, median (min-max) of ${rounds} rounds; against 'off' of the same round: median [95 % interval]`,
  )
  console.log(
    `  ${'metrics'.padEnd(18)} ${'req/s'.padEnd(22)} ${'throughput to off'.padEnd(24)} ${'main thread us/request'.padEnd(24)} ${'more than off, us'.padEnd(22)} process us/request`,
  )
  for (const row of rows) {
    const { median: rate, min, max } = row.requestsPerSecond
    const { median: ratio, low, high } = row.throughputToOff
    const more = row.mainThreadUsOverOff
    console.log(
      `  ${row.name.padEnd(18)} ${`${rate.toFixed(0)} (${min.toFixed(0)}-${max.toFixed(0)})`.padEnd(22)} ${`${ratio.toFixed(4)} [${low.toFixed(4)}, ${high.toFixed(4)}]`.padEnd(24)} ${row.mainThreadUsPerRequest.median.toFixed(1).padEnd(24)} ${`${more.median.toFixed(1)} [${more.low.toFixed(1)}, ${more.high.toFixed(1)}]`.padEnd(22)} ${row.processUsPerRequest.median.toFixed(0)}`,
    )
  }
}
