// Where and of what a record was made.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'

/** @param {string} command how to make the record again */
export function describeRun(command) {
  return {
    command,
    date: new Date().toISOString(),
    commit: process.env.COMMIT ?? execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim(),
    cpu: `${cpus()[0].model}, ${cpus().length} cores`,
    cpuFlags:
      /^flags.*$/m
        .exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[0]
        .match(/\b(avx512f|avx512_bf16|avx512_vnni|amx_bf16|amx_int8)\b/g) ?? [],
    node: process.version,
    model: 'sentence-transformers/all-MiniLM-L6-v2',
    loadAverage: loadavg(),
  }
}
