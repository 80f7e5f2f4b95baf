/** bench as a user runs it: the built program, a real model, a real server. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BenchRecord } from '../../src/tuning/measure/bench-record.ts'
import { startArithmeticServer } from '../fixtures/start-arithmetic-server.ts'
import { writeTinyBert } from '../fixtures/tiny-model.ts'

const main = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))
let folder: string
let shared: string[]
beforeAll(async () => {
  if (!existsSync(main)) throw new Error('dist/ is not built; npm test builds it')
  folder = await mkdtemp(join(tmpdir(), 'akidb-bench-'))
  const model = join(folder, 'tiny-bert')
  await writeTinyBert(model)
  const cache = join(folder, 'cache')
  shared = ['--model', model, '--cache-dir', cache, '--engine', 'onnx', '--threads', '1', '--offline']
})
afterAll(() => rm(folder, { recursive: true }))

function bench(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const env = { PATH: process.env['PATH'], HOME: folder }
    execFile(process.execPath, [main, 'bench', ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: (error?.code as number | undefined) ?? 0, stdout, stderr }),
    )
  })
}

const lastLine = (stdout: string): unknown => JSON.parse(stdout.trimEnd().split('\n').at(-1)!)

describe('bench', () => {
  it('measures this process, keeps the record and compares it', async () => {
    const path = join(folder, 'one.json')
    const args = ['--texts', '16', '--texts', 'mix', '--clients', '1,3', '--seconds', '0.2', '--save', path]
    const { code, stdout } = await bench([...shared, ...args])
    expect(code).toBe(0)
    const record = lastLine(stdout) as BenchRecord
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual(record)
    expect(record.rows.map((row) => row.scenario)).toEqual([
      '16 tokens, 1 client',
      '16 tokens, 3 clients',
      'mix, 1 client',
      'mix, 3 clients',
    ])
    for (const row of record.rows) {
      expect(row.target).toBe('in process, onnx fp32')
      expect(row.rounds).toHaveLength(5)
      for (const round of row.rounds) {
        expect(round.errors).toBe(0)
        expect(round.p50Ms).toBeGreaterThan(0)
        expect(round.averageBatchSize).toBeGreaterThanOrEqual(1)
      }
    }
    const [fixed] = record.rows
    const { tokensPerSecond, textsPerSecond } = fixed!.rounds[0]!
    expect(tokensPerSecond / textsPerSecond).toBeCloseTo(16, 6)
    expect(stdout).toContain('16 tokens, 3 clients\n')
    const compared = await bench(['--compare', path, path])
    expect(compared.code).toBe(0)
    expect(compared.stdout).toContain('no difference shown')
    const comparisons = lastLine(compared.stdout) as { ratio: number }[]
    expect(comparisons).toHaveLength(16)
    expect(comparisons.every(({ ratio }) => ratio === 1)).toBe(true)
  })

  it('measures servers side by side, in an open loop, with texts of a file', async () => {
    await using fast = await startArithmeticServer({}, { durationMs: 1 })
    await using slow = await startArithmeticServer({}, { durationMs: 60 })
    const texts = join(folder, 'own.txt')
    await writeFile(texts, 'the cat\nthe dog and the cat\n')
    const targets = ['--against', `fast=${fast.url}`, '--against', `slow=${slow.url}/v1/embeddings`]
    const args = ['--texts', texts, '--rate', '20', '--arrivals', 'constant', '--seconds', '0.5']
    const { code, stdout } = await bench([...shared, ...targets, ...args])
    expect(code).toBe(0)
    const record = lastLine(stdout) as BenchRecord
    expect(record.rows.map(({ target, scenario }) => [target, scenario])).toEqual([
      ['fast', 'own.txt, 20 requests/s constant'],
      ['slow', 'own.txt, 20 requests/s constant'],
    ])
    for (const round of record.rows[1]!.rounds) expect(round.p50Ms).toBeGreaterThan(59)
    for (const { rounds } of record.rows) {
      for (const { rssBytes } of rounds) expect(rssBytes).toBeGreaterThan(1e6)
    }
    expect(stdout).toContain('slow / fast')
  })

  it.each([
    [['--against', 'http://127.0.0.1:1'], 1, 'TARGET_FAILED'],
    [['--clients', '0'], 2, "--clients has '0'"],
    [['--clients', '1.5'], 2, 'whole numbers'],
    [['--rate', '5', '--clients', '2'], 2, 'one of the two'],
    [['--rate', '5', '--arrivals', 'random'], 2, 'poisson or constant'],
    [['--compare', 'a.json'], 2, 'CANDIDATE BASELINE'],
    [['--compare', 'a.json', 'b.json'], 1, 'FILE_UNREADABLE'],
    [['again'], 2, "bench takes no 'again'"],
  ])('%j ends with %i: %s', async (args, code, message) => {
    const run = await bench([...shared, ...args])
    expect(run.stderr).toContain(message)
    expect(run.code).toBe(code)
  })
})
