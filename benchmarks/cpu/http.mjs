// HTTP servers side by side on this machine: interleaved rounds, one server active, the others stopped with SIGSTOP.
//   node benchmarks/cpu/http.mjs [--rounds 5] [--seconds 5] [--only name,name] [--workloads name,name] [--out FILE]
// Prints a table, then one JSON line. Peers: see peers.mjs. Where a GPU is, auto takes it: hide it with CUDA_VISIBLE_DEVICES=-1.
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { homedir, loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { cosine } from '../../dist/engines/vectors.js'
import { createEmbedder } from '../../dist/index.js'
import { pullModel } from '../../dist/model/pull.js'
import { defaultCacheDir } from '../../dist/model/cache-dir.js'
import { createTokenizer } from '../../dist/serving/tokenizer/worker-tokenizer.js'
import { describeRun } from '../describe-run.mjs'
import { median, percentile, runClosedLoop } from './load-client.mjs'
import { listServers } from './peers.mjs'
import { makeTexts, realLengths } from './texts.mjs'

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '5' },
    only: { type: 'string' },
    workloads: { type: 'string' },
    out: { type: 'string' },
  },
})
const rounds = Number(flags.rounds)
const durationMs = Number(flags.seconds) * 1000

const allWorkloads = [
  { name: '16 clients x 64', clients: 16, tokens: 64, texts: 1 },
  { name: '64 clients x 64', clients: 64, tokens: 64, texts: 1 },
  { name: '16 clients x real lengths', clients: 16, tokens: 'real', texts: 1 },
  { name: '4 clients x 64', clients: 4, tokens: 64, texts: 1 },
  { name: '1 client x 16', clients: 1, tokens: 16, texts: 1 },
  { name: '1 client x 128', clients: 1, tokens: 128, texts: 1 },
  { name: '1 client x 256', clients: 1, tokens: 256, texts: 1 },
  { name: 'batch 32 x 128', clients: 1, tokens: 128, texts: 32 },
]
const workloads = allWorkloads.filter(
  ({ name }) => flags.workloads === undefined || flags.workloads.split(',').includes(name),
)

const cacheDir = defaultCacheDir(process.env, homedir())
const model = await pullModel('sentence-transformers/all-MiniLM-L6-v2', { cacheDir })
const tokenizer = await createTokenizer({
  tokenizerPath: join(model.folder, 'tokenizer.json'),
  workerCount: 0,
})
const texts = new Map()
for (const tokens of new Set(workloads.map((workload) => workload.tokens))) {
  if (tokens !== 'real') texts.set(tokens, await makeTexts(tokenizer, tokens, 64))
}
const byLength = new Map()
for (const length of new Set(realLengths(256)))
  byLength.set(length, (await makeTexts(tokenizer, length, 1))[0])
texts.set(
  'real',
  realLengths(256).map((length) => byLength.get(length)),
)
const reference = await makeReference()

const servers = listServers(process.env).filter(
  (server) => flags.only === undefined || flags.only.split(',').includes(server.name),
)
for (const server of servers.filter((each) => each.missing !== undefined))
  console.log(`skipped ${server.name}: ${server.missing}`)
const running = []
const rows = []
try {
  for (const server of servers.filter((each) => each.missing === undefined)) {
    running.push(await start(server))
    const series = workloads.map(({ name }) => [name, { p50Ms: [], p95Ms: [], textsPerSecond: [] }])
    rows.push({ name: server.name, workloads: Object.fromEntries(series) })
  }
  for (let round = 0; round < rounds; round++) {
    for (const workload of workloads) {
      // The start rotates, so that no server always runs on a warm or a hot machine.
      for (let k = 0; k < running.length; k++) {
        const i = (k + round) % running.length
        const server = running[i]
        process.kill(server.child.pid, 'SIGCONT')
        const all = texts.get(workload.tokens)
        const bodies =
          workload.texts === 1
            ? all.map((text) => server.toBody([text]))
            : [0, 1].map((half) => server.toBody(all.slice(half * 32, half * 32 + workload.texts)))
        const result = await runClosedLoop({
          port: server.port,
          path: server.path,
          bodies,
          clients: workload.clients,
          durationMs,
          warmupMs: 1000,
        })
        process.kill(server.child.pid, 'SIGSTOP')
        if (result.errors > 0)
          throw new Error(`${server.name}: ${result.errors} errors, first ${result.firstError}`)
        const row = rows[i].workloads[workload.name]
        row.p50Ms.push(percentile(result.latenciesMs, 0.5))
        row.p95Ms.push(percentile(result.latenciesMs, 0.95))
        row.textsPerSecond.push((result.requests * workload.texts * 1000) / result.elapsedMs)
      }
    }
    console.error(`round ${round + 1} of ${rounds}, load average ${loadavg()[0].toFixed(2)}`)
  }
  for (const [i, server] of running.entries()) {
    process.kill(server.child.pid, 'SIGCONT')
    const { alone, inBatch } = await measureQuality(server)
    Object.assign(rows[i], {
      readySeconds: server.readySeconds,
      rssMiB: readRssMiB(server.child.pid),
      worstCosineAlone: alone,
      worstCosineInBatch: inBatch,
    })
  }
} finally {
  for (const { child } of running) {
    process.kill(child.pid, 'SIGCONT')
    child.kill('SIGTERM')
  }
  await tokenizer[Symbol.asyncDispose]()
}

const record = {
  ...describeRun(`node benchmarks/cpu/http.mjs ${process.argv.slice(2).join(' ')}`),
  reference: 'onnx fp32 in process, one text at a time',
  skipped: servers
    .filter((each) => each.missing !== undefined)
    .map(({ name, missing }) => ({ name, missing })),
  rows: rows.map((row) => ({
    ...row,
    workloads: Object.fromEntries(
      Object.entries(row.workloads).map(([name, series]) => [
        name,
        Object.fromEntries(Object.entries(series).map(([key, values]) => [key, summarise(values)])),
      ]),
    ),
  })),
}
printTable(record)
if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(record, null, 1)}\n`)
console.log(JSON.stringify(record))

async function start(server) {
  const startMs = performance.now()
  const child = spawn(server.command, server.args, {
    env: { ...process.env, ...server.env },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const body = server.toBody(['ready?'])
  for (;;) {
    const end = child.exitCode ?? child.signalCode
    if (end !== null) throw new Error(`${server.name} ended with ${end}`)
    const answer = await fetch(`http://127.0.0.1:${server.port}${server.path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    }).catch(() => undefined)
    if (answer?.ok) break
    if (performance.now() - startMs > 60_000) {
      child.kill('SIGKILL')
      throw new Error(`${server.name} did not answer within 60 s`)
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const readySeconds = (performance.now() - startMs) / 1000
  process.kill(child.pid, 'SIGSTOP')
  return { ...server, child, readySeconds }
}

async function makeReference() {
  const embedder = await createEmbedder({ cacheDir, engine: 'onnx', precision: 'fp32' })
  const vectors = new Map()
  for (const list of texts.values()) {
    for (const text of list) vectors.set(text, (await embedder.embed([text]))[0])
  }
  await embedder[Symbol.asyncDispose]()
  return vectors
}

async function measureQuality(server) {
  const all = [...texts.values()].flat()
  const ask = async (list) => {
    const answer = await fetch(`http://127.0.0.1:${server.port}${server.path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: server.toBody(list),
    })
    return server.toVectors(await answer.json())
  }
  const compare = (text, vector) => cosine(Float32Array.from(vector), reference.get(text))
  let alone = 1
  for (const text of all) alone = Math.min(alone, compare(text, (await ask([text]))[0]))
  let inBatch = 1
  for (let i = 0; i < all.length; i += 32) {
    // Lengths mixed within a batch, so that padding takes part.
    const list = Array.from({ length: 32 }, (_, k) => all[(i / 32 + k * 8) % all.length])
    const vectors = await ask(list)
    for (const [k, text] of list.entries()) inBatch = Math.min(inBatch, compare(text, vectors[k]))
  }
  return { alone, inBatch }
}

function readRssMiB(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024
}

function summarise(values) {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

function printTable({ rows: printed }) {
  for (const workload of workloads) {
    console.log(`\n${workload.name} tokens: texts/s, p50 ms, p95 ms; median (min-max) of ${rounds} rounds`)
    for (const row of printed) {
      const { textsPerSecond, p50Ms, p95Ms } = row.workloads[workload.name]
      console.log(
        `  ${row.name.padEnd(22)} ${cell(textsPerSecond, 1).padEnd(24)} ${cell(p50Ms, 2).padEnd(24)} ${cell(p95Ms, 2)}`,
      )
    }
  }
  console.log('\nready s, RSS MiB after load, worst cosine alone / in a batch')
  for (const row of printed)
    console.log(
      `  ${row.name.padEnd(22)} ${row.readySeconds.toFixed(2).padEnd(8)} ${row.rssMiB.toFixed(0).padEnd(8)} ${row.worstCosineAlone.toFixed(6)} / ${row.worstCosineInBatch.toFixed(6)}`,
    )
}

/** 'median (min-max)' */
function cell({ median: middle, min, max }, digits) {
  return `${middle.toFixed(digits)} (${min.toFixed(digits)}-${max.toFixed(digits)})`
}
