/** The export command of the built program. */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readOnnxMetadata } from '../../src/model/onnx/model-metadata.ts'
import { runOnnx } from '../fixtures/run-onnx.ts'
import { writeTinyQwen3 } from '../fixtures/tiny-qwen3.ts'

const main = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'akidb-export-'))
  await writeTinyQwen3(join(root, 'model'))
})
afterAll(() => rm(root, { recursive: true }))

function run(...flags: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const shared = ['--cache-dir', join(root, 'cache'), '--threads', '1', '--offline']
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [main, 'export', join(root, 'model'), ...shared, ...flags],
      { env: { PATH: process.env['PATH'], HOME: root } },
      (error, stdout, stderr) => resolve({ code: (error?.code as number | undefined) ?? 0, stdout, stderr }),
    )
  })
}

describe('export', () => {
  test('writes an fp32 graph that runs, pooled where asked', async () => {
    const path = join(root, 'made', 'here', 'model.onnx')
    const { code, stdout } = await run('--output', path, '--pooled')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^\S*model\.onnx\n {2}model, fp32, ids -> pooled, 0\.\d MB\n$/)
    const { sentence_embedding: vectors } = await runOnnx(path, [[5, 6, 7]], [[1, 1, 1]])
    expect(vectors!.dims).toEqual([1, 32])
  })

  test('measures the scales of fp8 once, and keeps an export that is there', async () => {
    const path = join(root, 'fp8.onnx')
    const flags = ['--output', path, '--precision', 'fp8', '--pooled']
    const first = await run(...flags)
    expect(first.stderr).toMatch(/scales \S+\.json: measured on 143 texts, \d+ tokens/)
    expect(first.code).toBe(0)
    const { mtimeMs } = await stat(path)
    const second = await run(...flags)
    expect(second.stderr).toMatch(/scales \S+\.json: from the cache/)
    expect(second.stdout).toContain('was there already')
    expect((await stat(path)).mtimeMs).toBe(mtimeMs)
    const [name] = await readdir(join(root, 'cache', 'scales'))
    const scales = JSON.parse(await readFile(join(root, 'cache', 'scales', name!), 'utf8')) as object
    expect(scales).toMatchObject({ kind: 'calibrated', textCount: 143, margin: 1.25 })
    const other = await run(...flags, '--calibration-margin', '2')
    expect(other.stdout).not.toContain('was there already')
  })

  test("takes the user's texts, and scales from a file or fixed", async () => {
    const texts = join(root, 'texts.txt')
    await writeFile(texts, 'the cat\nthe dog sat\n')
    const measured = await run('--precision', 'fp8', '--calibration-texts', texts)
    expect(measured.stderr).toMatch(/measured on 2 texts/)
    const path = join(root, 'fixed.onnx')
    const fixed = await run('--precision', 'fp8', '--scales', 'fixed:0.05', '--output', path)
    expect(fixed.stderr).toContain('for synthetic weights')
    expect(await readOnnxMetadata(path)).toMatchObject({ precision: 'fp8', output: 'tokens' })
  })

  test.each([
    [['--precision', 'fp16'], 1, 'error PRECISION_UNSUPPORTED'],
    [
      ['--precision', 'fp8', '--scales', '/nowhere.json'],
      1,
      'error SCALES_INVALID: the activation scales of /nowhere.json',
    ],
    [['--precision', 'fp8', '--scales', 'fixed:0'], 1, 'error SCALES_INVALID'],
    [['--precision', 'fp8', '--calibration-margin', '0.5'], 2, "--calibration-margin is '0.5'"],
    [['--calibration-texts', 'any.txt'], 2, 'goes with --precision fp8'],
    [['--precision', 'fp8', '--calibration-texts', '/nowhere.txt'], 1, 'error FILE_UNREADABLE'],
    [['--output', '/dev/null/model.onnx'], 1, 'error FILE_UNWRITABLE'],
  ])('refuses %j', async (flags, code, words) => {
    const result = await run(...flags)
    expect(result.stderr).toContain(words)
    expect(result.code).toBe(code)
  })
})
