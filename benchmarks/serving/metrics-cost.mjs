// What the metrics cost: the same server with metrics on and off in interleaved rounds, one active, the others stopped
// with SIGSTOP. Two processes of one program differ by several per cent, so all are started anew a few times, and the
// server without metrics runs twice: how far the two differ is the noise.
//   node benchmarks/serving/metrics-cost.mjs [--engine model|instant] [--starts 8] [--rounds 3] [--seconds 2]
//     [--clients 16] [--tokens 64] [--out FILE]
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
    starts: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    clients: { type: 'string', default: '16' },
    tokens: { type: 'string', default: '64' },
    out: { type: 'string' },
  },
})
const starts = Number(flags.starts)
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

const series = variants.map(() => ({ requestsPerSecond: [], p50Ms: [], mainThreadUs: [], processUs: [] }))
const loadBefore = loadavg()
for (let i = 0; i < starts; i++) {
  await runStart(i)
  console.error(`start ${i + 1} of ${starts}, load average ${loadavg()[0].toFixed(2)}`)
}

const [off] = series
const record = {
  command: `node benchmarks/serving/metrics-cost.mjs --engine ${flags.engine} --starts ${starts} --rounds ${rounds} --seconds ${flags.seconds} --clients ${clients} --tokens ${flags.tokens}`,
  date: new Date().toISOString(),
  commit: process.env.COMMIT ?? execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim(),
  cpu: `${cpus()[0].model}, ${cpus().length} cores`,
  node: process.version,
  loadAverageBefore: loadBefore,
  loadAverageAfter: loadavg(),
  rows: series.map((measured, k) => ({
    name: variants[k].name,
    requestsPerSecond: summarise(measured.requestsPerSecond),
    p50Ms: summarise(measured.p50Ms),
    mainThreadUsPerRequest: summarise(measured.mainThreadUs),
    processUsPerRequest: summarise(measured.processUs),
    // Each round is a pair: both servers ran within seconds of one another.
    throughputToOff: interval(measured.requestsPerSecond.map((value, i) => value / off.requestsPerSecond[i])),
    mainThreadUsOverOff: interval(measured.mainThreadUs.map((value, i) => value - off.mainThreadUs[i])),
    processUsOverOff: interval(measured.processUs.map((value, i) => value - off.processUs[i])),
  })),
}
printTable(record)
if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(record, null, 1)}\n`)
console.log(JSON.stringify(record))

/** Fresh processes, a few rounds, the end of them. */
async function runStart(start) {
  const servers = []
  try {
    for (const [k, variant] of variants.entries()) servers.push(await startServer(variant, 7830 + k))
    for (let round = 0; round < rounds; round++) {
      // The first one rotates, so that no server always runs on a warm or a hot machine.
      for (let n = 0; n < servers.length; n++) {
        const k = (n + start + round) % servers.length
        await measure(servers[k], series[k])
      }
    }
  } finally {
    for (const { child } of servers) {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      process.kill(child.pid, 'SIGCONT')
      child.kill('SIGTERM')
      await ended
    }
  }
}

async function measure(server, { requestsPerSecond, p50Ms, mainThreadUs, processUs }) {
  const { pid } = server.child
  process.kill(pid, 'SIGCONT')
  await load(server, 300)
  const before = readCpuNs(pid)
  const result = await load(server, durationMs)
  const after = readCpuNs(pid)
  process.kill(pid, 'SIGSTOP')
  requestsPerSecond.push((result.requests * 1000) / result.elapsedMs)
  p50Ms.push(percentile(result.latenciesMs, 0.5))
  mainThreadUs.push((after.mainThread - before.mainThread) / 1000 / result.requests)
  processUs.push((after.process - before.process) / 1000 / result.requests)
}

async function startServer(variant, port) {
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
  return server
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

/** Median and its 95 % bootstrap interval; whole starts are drawn, since the rounds of one process are alike. */
function interval(values) {
  const byStart = Array.from({ length: starts }, (_, i) => values.slice(i * rounds, (i + 1) * rounds))
  const draw = () => byStart[Math.floor(Math.random() * starts)]
  const medians = Array.from({ length: 5000 }, () => median(byStart.flatMap(draw)))
  return { median: median(values), low: percentile(medians, 0.025), high: percentile(medians, 0.975) }
}

function printTable({ rows }) {
  console.log(
    `\n${flags.engine}, ${clients} clients x ${flags.tokens} tokens, median (min-max) of ${starts} x ${rounds} rounds; against 'off' of the same round: median [95 % interval]`,
  )
  line(
    'metrics',
    'req/s',
    'throughput to off',
    'main thread us/request',
    'more than off',
    'process us/request',
    'more than off',
  )
  for (const row of rows) {
    const { median: rate, min, max } = row.requestsPerSecond
    line(
      row.name,
      `${rate.toFixed(0)} (${min.toFixed(0)}-${max.toFixed(0)})`,
      span(row.throughputToOff, 4),
      row.mainThreadUsPerRequest.median.toFixed(1),
      span(row.mainThreadUsOverOff, 1),
      row.processUsPerRequest.median.toFixed(0),
      span(row.processUsOverOff, 0),
    )
  }
}

function line(...cells) {
  console.log(`  ${cells.map((cell) => cell.padEnd(24)).join(' ')}`)
}

/** 'median [low, high]' */
function span({ median: middle, low, high }, digits) {
  return `${middle.toFixed(digits)} [${low.toFixed(digits)}, ${high.toFixed(digits)}]`
}
