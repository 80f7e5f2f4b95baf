// Starts our server as a process of its own, for the benchmarks of serving.
import { spawn } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defaultCacheDir } from '../../dist/model/cache-dir.js'
import { pullModel } from '../../dist/model/pull.js'
import { createTokenizer } from '../../dist/serving/tokenizer/worker-tokenizer.js'
import { makeTexts } from '../cpu/texts.mjs'

const main = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))

/** @param {readonly string[]} flags @param {number} port */
export async function startServer(flags, port) {
  const child = spawn(
    process.execPath,
    [main, 'serve', '--quiet', '--log-level', 'error', '--port', String(port), ...flags],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  for (let i = 0; ; i++) {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined)
    if (answer?.ok) break
    if (child.exitCode !== null || i > 600) throw new Error(`the server does not start: ${child.exitCode}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return {
    port,
    pid: child.pid,
    /** What the server tells of itself. */
    stats: async () => (await fetch(`http://127.0.0.1:${port}/stats`)).json(),
    rssMiB: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))[1]) / 1024,
    descriptors: () => readdirSync(`/proc/${child.pid}/fd`).length,
    /** CPU seconds so far. */
    cpuSeconds: () => {
      const stat = readFileSync(`/proc/${child.pid}/stat`, 'utf8')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return (Number(fields[11]) + Number(fields[12])) / 100
    },
    /** CPU microseconds of the thread that speaks HTTP. */
    mainThreadUs: () =>
      Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/schedstat`, 'utf8').split(' ')[0]) / 1000,
    stop: async () => {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGTERM')
      return ended
    },
  }
}

/** Bodies of /embed, one text each. @param {readonly number[]} lengths in tokens; texts are made for each length once */
export async function makeBodies(lengths) {
  const cacheDir = defaultCacheDir(process.env, homedir())
  const model = await pullModel('sentence-transformers/all-MiniLM-L6-v2', { cacheDir })
  const tokenizerPath = join(model.folder, 'tokenizer.json')
  const tokenizer = await createTokenizer({ tokenizerPath, workerCount: 0 })
  const texts = new Map()
  for (const length of new Set(lengths)) texts.set(length, await makeTexts(tokenizer, length, 8))
  await tokenizer[Symbol.asyncDispose]()
  return lengths.map((length, i) => JSON.stringify({ inputs: texts.get(length)[i % 8] }))
}
