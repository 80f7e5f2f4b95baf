// What each knob of a TensorRT engine does to one model: precision, profiles, tactic sources, workspace, level; one knob at a
// time against a base (fp8, three profiles in one engine, TensorRT's own tactic sources, 4 GiB, level 3).
//   node benchmarks/gpu/sweep.mjs --model FOLDER --journal FILE.jsonl --work FOLDER --minutes 25 [--scales fixed:0.05]
// A row is built, inspected, measured and deleted in a process of its own, then appended to the journal; the same command
// goes on with the rows that are missing. --report prints the table of a journal and runs nothing. Builds share one timing
// cache, so build seconds are those of a warm one. Exit code 0: every row is measured or not
// available; 1: some failed (run again); 3: time was up.
//   A model to sweep: node scripts/make-qwen3.mjs --size 4B --layers 6 --output FOLDER --tokenizer bytes
// Needs dist/, production node_modules, a driver and TensorRT (found as doctor does, LD_LIBRARY_PATH first).
import { execFileSync, spawn } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { measureRow } from './sweep-row.mjs'

const options = {
  model: { type: 'string', help: 'FOLDER of the model' },
  journal: { type: 'string', help: 'FILE: a JSON line a row, appended' },
  work: { type: 'string', help: 'FOLDER for exports, plans and timings; large; may be kept between runs' },
  minutes: {
    type: 'string',
    default: '25',
    help: 'no row is begun that may not end in time; a running one is stopped',
  },
  scales: {
    type: 'string',
    default: 'fixed:0.05',
    help: 'activation scales of fp8: FILE or fixed:N (synthetic)',
  },
  tokens: { type: 'string', default: '512', help: 'token length of profiles and batches' },
  batches: {
    type: 'string',
    default: '1,8,32',
    help: 'batch sizes to time; those that no profile holds are left out',
  },
  rounds: { type: 'string', default: '100', help: 'batches a figure; a third from 8 texts on' },
  label: { type: 'string', default: '', help: 'what the model is, for the table' },
  only: { type: 'string', help: 'REGEX: rows whose key matches' },
  report: { type: 'boolean', default: false, help: 'print the table of the journal' },
  row: { type: 'string', help: 'one row as JSON, for the processes that this one starts' },
  help: { type: 'boolean', default: false, help: 'this' },
}
const { values: flags } = parseArgs({ options })
if (
  flags.help ||
  flags.journal === undefined ||
  (!flags.report && (flags.model === undefined || flags.work === undefined))
) {
  for (const [name, { help, default: value }] of Object.entries(options)) {
    console.log(
      `  --${name.padEnd(8)} ${help}${value === undefined || value === false || value === '' ? '' : ` (default ${value})`}`,
    )
  }
  process.exit(flags.help ? 0 : 2)
}
const rows = listRows().filter(({ key }) => flags.only === undefined || new RegExp(flags.only).test(key))
if (flags.row !== undefined) {
  process.stdout.write(`${JSON.stringify(await measureRow(JSON.parse(flags.row), flags))}\n`)
  process.exit(0)
}
if (!flags.report) process.exitCode = await sweep()
console.log(formatTable(readJournal()))

/** Base first after the reference, then one knob at a time; rows of one precision lie together, so that its export is made
 * once. */
function listRows() {
  const base = {
    precision: 'fp8',
    profiles: 'low_latency=1/1/2,balanced=2/4/8,high_throughput=8/16/32',
    tacticSources: 'default',
    workspaceMib: 4096,
    level: 3,
  }
  const row = (key, changes) => ({ key, ...base, ...changes })
  return [
    row('precision fp32', { precision: 'fp32' }),
    row('base', {}),
    ...base.profiles.split(',').map((profile) => row(`profile ${profile}`, { profiles: profile })),
    ...['CUBLAS', 'CUBLAS,CUDNN', 'CUBLAS,CUDNN,EDGE_MASK_CONVOLUTIONS'].map((names) =>
      row(`tactics ${names}`, { tacticSources: names }),
    ),
    ...[512, 1024, 2048].map((mib) => row(`workspace ${mib} MiB`, { workspaceMib: mib })),
    row('level 5', { level: 5 }),
    row('precision bf16', { precision: 'bf16' }),
    row('precision fp16', { precision: 'fp16' }),
  ]
}

async function sweep() {
  mkdirSync(flags.work, { recursive: true })
  mkdirSync(dirname(flags.journal), { recursive: true })
  const endMs = performance.now() + Number(flags.minutes) * 60_000
  let longestMs = 60_000
  for (const row of rows) {
    if (readJournal().some((record) => record.key === row.key && isSettled(record))) continue
    const leftMs = endMs - performance.now()
    if (leftMs < longestMs * 1.2) {
      console.log(
        `time is up before '${row.key}': ${(leftMs / 1000).toFixed(0)} s left; run the same command again`,
      )
      return 3
    }
    console.log(`\n== ${row.key}: ${JSON.stringify(row)}`)
    const startedMs = performance.now()
    const result = await runRow(row, leftMs)
    longestMs = Math.max(longestMs, performance.now() - startedMs)
    if (result === undefined) {
      console.log(`'${row.key}' did not end in time; it will be run again`)
      return 3
    }
    const about = {
      commit: readCommit(),
      date: new Date().toISOString(),
      label: flags.label,
      ...row,
      ...result,
    }
    appendFileSync(flags.journal, `${JSON.stringify(about)}\n`)
    console.log(formatTable([about]).split('\n').at(-1))
    removePlans(row)
  }
  return rows.every(({ key }) => readJournal().some((record) => record.key === key && isSettled(record)))
    ? 0
    : 1
}

/** In a process of its own: libraries that a row opens stay open, and an error of the GPU stays too.
 * @returns undefined when it was stopped */
function runRow(row, limitMs) {
  return new Promise((resolve) => {
    const passed = ['model', 'journal', 'work', 'scales', 'tokens', 'batches', 'rounds'].flatMap((name) => [
      `--${name}`,
      flags[name],
    ])
    const self = fileURLToPath(import.meta.url)
    const child = spawn(process.execPath, [self, ...passed, '--row', JSON.stringify(row)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      child.kill('SIGKILL')
    }, limitMs)
    let output = ''
    child.stdout.on('data', (piece) => (output += piece))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (isLate) resolve(undefined)
      else if (code === 0) resolve(JSON.parse(output.trimEnd().split('\n').at(-1)))
      else resolve({ outcome: 'crashed', reason: `the process ended with ${signal ?? `exit code ${code}`}` })
    })
  })
}

/** Its plan, and the export when no row that is still to come has the same precision. */
function removePlans({ precision }) {
  const engines = join(flags.work, 'engines')
  for (const name of existsSync(engines) ? readdirSync(engines) : []) {
    if (!name.startsWith('timings-')) rmSync(join(engines, name), { recursive: true })
  }
  const done = new Set(
    readJournal()
      .filter(isSettled)
      .map(({ key }) => key),
  )
  if (rows.some((row) => row.precision === precision && !done.has(row.key))) return
  const exports = join(flags.work, 'onnx')
  for (const name of existsSync(exports) ? readdirSync(exports) : []) {
    const isOwn = precision === 'fp32' ? !/-(bf16|fp16|fp8)/.test(name) : name.includes(`-${precision}`)
    if (isOwn) rmSync(join(exports, name), { recursive: true })
  }
}

/** What failed or crashed is tried again by the next run. */
function isSettled({ outcome }) {
  return outcome === 'measured' || outcome === 'not available'
}

/** The last word on each row. */
function readJournal() {
  if (!existsSync(flags.journal)) return []
  const lines = readFileSync(flags.journal, 'utf8').split('\n')
  const records = lines.flatMap((line) => {
    try {
      return line === '' ? [] : [JSON.parse(line)]
    } catch {
      // A line that a crash cut short: its row is run again.
      return []
    }
  })
  return [...new Map(records.map((record) => [record.key, record])).values()]
}

function readCommit() {
  if (process.env.COMMIT !== undefined) return process.env.COMMIT
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { stdio: 'pipe' }).toString().trim()
  } catch {
    return 'unknown'
  }
}

function formatTable(records) {
  const base = readJournal().find(({ key }) => key === 'base')
  const sizes = flags.batches.split(',')
  const head = [
    'row',
    'build s',
    ...sizes.map((size) => `${size} x ${String(flags.tokens)}: p50 / p95 / p99 ms, texts/s`),
    'GPU MiB (plan / context / device)',
    'worst cosine to fp32',
    'products',
    'tactics',
  ]
  const lines = records.map((record) => {
    if (record.outcome !== 'measured') return [record.key, `${record.outcome}: ${record.reason}`]
    const times = sizes.map((size) => {
      const time = record.times.find(({ batchSize }) => batchSize === Number(size))
      if (time === undefined) return '-'
      const figures = [time.p50Ms, time.p95Ms, time.p99Ms].map((ms) => ms.toFixed(2)).join(' / ')
      return `${figures}, ${time.textsPerSecond.toFixed(0)}`
    })
    const mib = [record.planBytes, record.contextBytes, record.gpuUsedBytes].map((bytes) =>
      bytes === undefined ? '?' : (bytes / 2 ** 20).toFixed(0),
    )
    return [
      record.key,
      record.buildSeconds.toFixed(1),
      ...times,
      mib.join(' / '),
      describeCosine(record),
      Object.entries(record.productsByPrecision)
        .map(([name, count]) => `${count} ${name}`)
        .join(' '),
      describeTactics(record, base),
    ]
  })
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function describeCosine({ worstCosine, nonFiniteTexts }) {
  if (nonFiniteTexts > 0) return `NaN in ${nonFiniteTexts} texts`
  return worstCosine === undefined || worstCosine === null ? 'no reference' : worstCosine.toFixed(5)
}

function describeTactics(record, base) {
  const used = record.usedTacticSources.join(' ')
  // 'not available: CUDNN, since …': the journal has the whole sentence.
  const missing = record.notAvailable.map((note) => note.split(',')[0])
  const isComparable = base !== undefined && record.key !== 'base' && record.profiles === base.profiles
  const isSame =
    isComparable && record.tacticsHash === base.tacticsHash && record.precision === base.precision
  const words = [...missing, ...(isSame ? ['no effect: same tactics'] : [])]
  return words.length === 0 ? used : `${words.join('; ')} (${used})`
}
