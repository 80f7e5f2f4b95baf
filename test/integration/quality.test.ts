/** quality as a user runs it, on a real model. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { QualityReport } from '../../src/tuning/quality/assess-quality.ts'
import type { QualityCheck } from '../../src/tuning/quality/judge-quality.ts'
import { createRandom } from '../../src/tuning/measure/random.ts'
import { writeTinyBert } from '../fixtures/tiny-model.ts'

const main = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))
let folder: string
beforeAll(async () => {
  if (!existsSync(main)) throw new Error('dist/ is not built; npm test builds it')
  folder = await mkdtemp(join(tmpdir(), 'akidb-quality-'))
  await writeTinyBert(join(folder, 'tiny-bert'))
})
afterAll(() => rm(folder, { recursive: true }))

function quality(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const model = ['--model', join(folder, 'tiny-bert'), '--cache-dir', join(folder, 'cache'), '--offline']
  const env = { PATH: process.env['PATH'], HOME: folder }
  return new Promise((resolve) => {
    execFile(process.execPath, [main, 'quality', ...model, ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: (error?.code as number | undefined) ?? 0, stdout, stderr }),
    )
  })
}

it('passes for the reference itself, fails for the vectors of another model', async () => {
  const same = ['--engine', 'onnx', '--precision', 'fp32', '--texts', '40']
  const { code, stdout } = await quality(same)
  expect(code).toBe(0)
  expect(stdout).toContain('pass  worst cosine')
  const { passed, report } = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as {
    passed: boolean
    report: QualityReport
  }
  expect(passed).toBe(true)
  expect(report.recallAt10).toBe(1)
  expect(report.worstCosine).toBeGreaterThan(0.999999)

  // A reference that is another model's: cosine and neighbours must fail on it, and the exit code tell.
  const references = join(folder, 'cache/quality')
  const [file] = await readdir(references)
  const { size } = await stat(join(references, file!))
  const random = createRandom(1)
  const wrong = Float32Array.from({ length: size / 4 }, () => random.next() - 0.5)
  await writeFile(join(references, file!), new Uint8Array(wrong.buffer))
  const failed = await quality([...same, '--json'])
  expect(failed.code).toBe(1)
  const record = JSON.parse(failed.stdout) as { passed: boolean; checks: QualityCheck[] }
  expect(record).toMatchObject({ model: 'tiny-bert', engine: 'onnx', reference: 'onnx fp32', passed: false })
  expect(record.checks.filter((check) => !check.passed).map(({ name }) => name)).toEqual([
    'worst cosine',
    'recall@10 overlap',
  ])
  expect((await quality(['--texts', '3'])).stderr).toContain('at least 20')
  expect((await quality(['now'])).code).toBe(2)
})
