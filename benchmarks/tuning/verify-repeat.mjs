// Does verify land where tune said that it would? The same configuration again and again: every run should be inside.
const usage = `node benchmarks/tuning/verify-repeat.mjs [--tuned tuned/tuned.json] [--runs 10] [--pause SECONDS] [--out FILE]

Runs 'akidb-embedding verify' that often, each in a process of its own, about 20 s a run. Prints for each what was measured, the
interval that the file expects and the load average before it, then how many were inside with every number of clients, then one JSON
line. Exit code 1 when fewer than nine of ten were.

  --tuned FILE      what tune wrote on this machine (default tuned/tuned.json)
  --runs N          default 10     --pause SECONDS   between them (default 0)
  --offline         no look at the network for the model
  --out FILE        keep the record`
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { describeRun } from '../describe-run.mjs'

const { values: flags } = parseArgs({
  options: {
    tuned: { type: 'string', default: 'tuned/tuned.json' },
    runs: { type: 'string', default: '10' },
    pause: { type: 'string', default: '0' },
    offline: { type: 'boolean' },
    out: { type: 'string' },
    help: { type: 'boolean' },
  },
})
if (flags.help) {
  console.log(usage)
  process.exit(0)
}
const program = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))
const { settings, key } = JSON.parse(readFileSync(flags.tuned, 'utf8'))
const before = describeRun(['node benchmarks/tuning/verify-repeat.mjs', ...process.argv.slice(2)].join(' '))

const runs = []
for (let run = 1; run <= Number(flags.runs); run++) {
  if (run > 1) await sleep(1000 * Number(flags.pause))
  const verification = await verify()
  const isInside = verification.scenarios.every(({ verdict }) => verdict === 'as expected')
  runs.push({ ...verification, isInside })
  console.log(formatRun(run, runs.at(-1)))
}
const inside = runs.filter(({ isInside }) => isInside).length
console.log(
  `\n${inside} of ${runs.length} inside the interval with every number of clients, ${runs.filter(({ passed }) => passed).length} passed`,
)
const record = { ...before, model: key.model, settings, inside, runs }
if (flags.out !== undefined) writeFileSync(flags.out, `${JSON.stringify(record, null, 1)}\n`)
console.log(JSON.stringify(record))
process.exitCode = inside >= 0.9 * runs.length ? 0 : 1

/** Exit code 1 is a finding, too; without a record it is an error. */
function verify() {
  const args = [program, 'verify', flags.tuned, '--json', ...(flags.offline ? ['--offline'] : [])]
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, (error, stdout, stderr) => {
      const last = stdout.trimEnd().split('\n').at(-1)
      if (last.startsWith('{')) resolve(JSON.parse(last))
      else reject(new Error(`verify gave no record: ${stderr.trim()}`, { cause: error }))
    })
  })
}

function formatRun(run, { isInside, visits, loadAverage, scenarios }) {
  const head = `run ${String(run).padStart(2)}  ${isInside ? 'inside ' : 'OUTSIDE'}  load ${loadAverage[0].toFixed(2)}, measured ${visits} times`
  const rows = scenarios.map(
    ({ scenario, textsPerSecond, expected, ratio, verdict }) =>
      `        ${verdict.padEnd(11)}  ${scenario.padEnd(10)} ${textsPerSecond.toFixed(1).padStart(7)} texts/s, expected ${expected === undefined ? 'unknown' : `${expected.low.toFixed(1)}-${expected.high.toFixed(1)}`}, ${ratio.toFixed(2)} times what it was`,
  )
  return [head, ...rows].join('\n')
}
