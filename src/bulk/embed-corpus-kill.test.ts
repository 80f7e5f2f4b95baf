import { execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { vectorFormats } from './vectors.ts'

const repository = fileURLToPath(new URL('../../', import.meta.url))
const recordCount = 600
let folder: string

/** A run in a process of its own: 40 batches of 15 texts of 2048 dimensions, so that parquet closes row groups between. */
const script = `
import { embedCorpus } from './build/bulk/embed-corpus.js'
const [input, output] = process.argv.slice(2)
const embed = async (texts) => {
  await new Promise((resolve) => setTimeout(resolve, 5))
  const vectors = texts.map((text) => Float32Array.from({ length: 2048 }, (_, i) => Math.sin(Number(text) * 7 + i)))
  return { vectors, tokens: texts.length, truncated: 0 }
}
const options = { input, output, embed, dimensions: 2048, modelHash: 'm', batchSize: 15, resume: true, checkpointIntervalMs: 10 }
console.log((await embedCorpus(options)).resumedRecords)
`

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'embed-corpus-kill-'))
  const config = {
    extends: join(repository, 'tsconfig.json'),
    compilerOptions: {
      noEmit: false,
      allowImportingTsExtensions: false,
      outDir: join(folder, 'build'),
      rootDir: join(repository, 'src'),
      typeRoots: [join(repository, 'node_modules/@types')],
    },
    include: [],
    files: [join(repository, 'src/bulk/embed-corpus.ts')],
  }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config))
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await writeFile(join(folder, 'run.js'), script)
  await symlink(join(repository, 'node_modules'), join(folder, 'node_modules'), 'junction')
  const compiler = join(repository, 'node_modules/typescript/bin/tsc')
  await promisify(execFile)(process.execPath, [compiler, '-p', folder])
})
afterAll(() => rm(folder, { recursive: true }))

/** Ends the process without warning once its checkpoint has that many records. */
async function killAt(records: number, input: string, output: string): Promise<void> {
  const child = spawn(process.execPath, [join(folder, 'run.js'), input, output], { stdio: 'ignore' })
  const ended = new Promise((resolve) => {
    child.once('exit', (_code, signal) => resolve(signal))
  })
  let done = 0
  while (done < records && child.exitCode === null) {
    const text = await readFile(`${output}.progress.json`, 'utf8').catch(() => '')
    done = Number(/"records": (\d+)/.exec(text)?.[1] ?? 0)
  }
  child.kill('SIGKILL')
  expect(await ended).toBe('SIGKILL')
}

it.each(vectorFormats)(
  '%s: killed three times and started again gives the bytes of one run',
  async (format) => {
    const input = join(folder, 'in.txt')
    const output = join(folder, `killed.${format}`)
    const whole = join(folder, `whole.${format}`)
    await writeFile(input, Array.from({ length: recordCount }, (_, index) => `${index}\n`).join(''))
    for (const records of [60, 200, 420]) {
      await killAt(records, input, output)
      expect(existsSync(output)).toBe(false)
    }
    const finish = async (path: string): Promise<number> => {
      const { stdout } = await promisify(execFile)(process.execPath, [join(folder, 'run.js'), input, path])
      return Number(stdout)
    }
    expect(await finish(output)).toBeGreaterThanOrEqual(420)
    expect(await finish(whole)).toBe(0)
    expect((await readFile(output)).equals(await readFile(whole))).toBe(true)
    expect((await readdir(folder)).filter((name) => name.startsWith('killed'))).toEqual([`killed.${format}`])
    await rm(output)
  },
)
