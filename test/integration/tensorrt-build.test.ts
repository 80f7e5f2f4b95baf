/** build, verify-precision and engines as a user runs them, on a driver and a TensorRT written in C. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { canCompile } from '../fakes/native-library.ts'
import { writeNvidiaLibraries } from '../fakes/nvidia-libraries.ts'
import { writeTinyBert } from '../fixtures/tiny-model.ts'

const main = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))
const layersFile = fileURLToPath(new URL('../fixtures/tensorrt-layers.json', import.meta.url))
let root: string
let model: string

interface Run {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function environment(cache: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return {
    PATH: process.env['PATH']!,
    HOME: root,
    LD_LIBRARY_PATH: join(root, 'libraries'),
    AKIDB_CACHE_DIR: join(root, cache),
    AKIDB_OFFLINE: 'true',
    FAKE_NVINFER: 'describe=1',
    FAKE_NVINFER_BUILDS: join(root, `${cache}.builds`),
    ...more,
  }
}

function run(args: readonly string[], env: Record<string, string>, program = main): Promise<Run> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : (error.code as number), stdout, stderr }),
    )
  })
}

async function countBuilds(cache: string): Promise<number> {
  const text = await readFile(join(root, `${cache}.builds`), 'utf8').catch(() => '')
  return text.split('\n').length - 1
}

const small = ['--precision', 'fp32', '--profiles', 'low=1/1/2', '--profile-tokens', '16,64']

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'akidb-build-'))
  model = join(root, 'tiny-bert')
  await writeTinyBert(model)
})
afterAll(() => rm(root, { recursive: true }))

// A program is started some forty times.
describe.skipIf(!canCompile || process.platform !== 'linux')('build', { timeout: 90_000 }, () => {
  beforeAll(() => writeNvidiaLibraries(join(root, 'libraries')))

  it('tells what it would do, does it, and finds it done', async () => {
    const env = environment('first')
    const dry = await run(['build', model, ...small, '--dry-run'], env)
    expect(dry.stdout.split('\n').map((line) => line.replace(root, ''))).toEqual([
      'gpu      Fake 0, driver 580.65.06, TensorRT 10.6.0',
      expect.stringMatching(/^engine {3}\/first\/engines\/tiny-bert\/fp32-low-[0-9a-f]{16}$/),
      '  would be built: it was never built',
      '  precision fp32, in ids, out pooled',
      '  profile  low 1/1/2 x 1..16',
      '  profile  low 1/1/2 x 17..64',
      '  level 3, workspace 4096 MiB, tactics default',
      '',
    ])
    expect([dry.code, await countBuilds('first')]).toEqual([0, 0])

    const built = await run(['build', model, ...small], env)
    expect([built.code, built.stderr.includes('TensorRT warning: a weight is subnormal')]).toEqual([0, true])
    expect(built.stderr).toContain('exporting ONNX')
    const [, path] = /engine {3}(.*)\n/.exec(built.stdout)!
    expect((await readFile(path!, 'utf8')).split('\n').slice(0, 3)).toEqual([
      'fakeplan pooled ids 384 4096',
      '1 1 2 1 16 16',
      '1 1 2 17 64 64',
    ])
    expect(dry.stdout).toContain(path!.replace('/engine.plan', ''))

    const again = await run(['build', model, ...small], env)
    expect([again.code, again.stdout.includes('from the cache'), await countBuilds('first')]).toEqual([
      0,
      true,
      1,
    ])
    const anew = await run(['build', model, ...small, '--rebuild'], env)
    expect([anew.code, await countBuilds('first')]).toEqual([0, 2])
    expect(anew.stdout).toMatch(/backups {2}1, .* 'akidb-embedding engines prune' removes them\n$/)
  })

  it('leaves a cache that engines lists and prunes', async () => {
    const env = environment('first')
    const listed = await run(['engines'], env)
    expect(listed.stdout).toMatch(
      /fp32, TensorRT 10\.6\.0, Fake 0, built \d{4}-.*\n.*\.bak\n.* backup\n2 in /,
    )
    expect((await run(['engines', 'prune', '--dry-run'], env)).stdout).toMatch(/^\/.*\.bak\n.*\n1 in /)
    expect((await run(['engines', 'prune'], env)).stdout).toMatch(/^removed .*\.bak\n/)
    const after = await run(['engines'], env)
    expect(after.stdout).toMatch(/\n1 in /)
    const weights = join(root, 'first', 'weights')
    await mkdir(weights)
    const [whole, old, fresh] = ['.weights', '.weights.1.tmp', '.weights.2.tmp'] as const
    for (const name of [whole, old, fresh]) await writeFile(join(weights, `m-fp8${name}`), '1234567890')
    const longAgo = new Date(Date.now() - 2 * 86_400_000)
    await utimes(join(weights, `m-fp8${old}`), longAgo, longAgo)
    expect((await run(['engines', 'prune'], env)).stdout).toContain(`removed ${weights}/m-fp8${old}`)
    expect(await readdir(weights)).toEqual([`m-fp8${whole}`, `m-fp8${fresh}`])
    expect((await run(['engines'], env)).stdout).toContain('FP8 weights of the native engine')
    expect((await run(['engines', 'burn'], env)).code).toBe(2)

    const path = join(after.stdout.split('\n')[0]!, 'engine.plan')
    const own = await run(['build', model, '--plan', path], env)
    expect([own.code, own.stderr]).toEqual([
      1,
      expect.stringContaining("its vectors have 384 values, the model's have 32; 'akidb-embedding build'"),
    ])
  })

  it('is done once when two processes ask at the same time', async () => {
    const env = environment('two', { FAKE_NVINFER: 'describe=1 step_ms=600' })
    const runs = await Promise.all([1, 2].map(() => run(['build', model, ...small], env)))
    expect(runs.map(({ code }) => code)).toEqual([0, 0])
    expect(runs.filter(({ stdout }) => stdout.includes('from the cache'))).toHaveLength(1)
    expect(await countBuilds('two')).toBe(1)
    const waited = runs.map(({ stderr }) => /waiting for process \d+ on .*, which builds it/.test(stderr))
    expect(waited.filter(Boolean)).toHaveLength(1)
  })

  it('stops at Ctrl-C with nothing half-done; a build that was killed hinders nobody', async () => {
    const env = environment('stopped', { FAKE_NVINFER: 'describe=1 step_ms=1500' })
    const start = async (signal: NodeJS.Signals): Promise<{ code: number | null; stderr: string }> => {
      const before = await countBuilds('stopped')
      const child: ChildProcess = spawn(process.execPath, [main, 'build', model, ...small], { env })
      let stderr = ''
      child.stderr!.on('data', (piece: Buffer) => (stderr += piece.toString()))
      await expect.poll(() => countBuilds('stopped')).toBe(before + 1)
      const ended = new Promise<number | null>((resolve) => child.on('exit', resolve))
      child.kill(signal)
      return { code: await ended, stderr }
    }
    const interrupted = await start('SIGINT')
    expect([interrupted.code, interrupted.stderr]).toEqual([
      1,
      expect.stringContaining('error REQUEST_CANCELLED'),
    ])
    const folder = join(root, 'stopped', 'engines')
    expect(await readdir(join(folder, 'tiny-bert'))).toEqual([])
    expect((await readdir(folder)).filter((name) => name.startsWith('timings-'))).toHaveLength(1)

    expect((await start('SIGKILL')).code).toBeNull()
    expect(await readdir(join(folder, 'tiny-bert'))).toEqual([expect.stringMatching(/\.lock$/)])
    const done = await run(['build', model, ...small], environment('stopped'))
    expect([done.code, await countBuilds('stopped')]).toEqual([0, 3])
    expect(await readdir(join(folder, 'tiny-bert'))).toEqual([
      expect.stringMatching(/^fp32-low-[0-9a-f]{16}$/),
    ])
  })

  it('names what is missing and the package that brings it', async () => {
    const missing = await run(
      ['build', model, ...small, '--tensorrt-library', join(root, 'absent')],
      environment('none'),
    )
    expect([missing.code, missing.stderr]).toEqual([
      1,
      expect.stringMatching(
        /error LIBRARY_NOT_FOUND: libnvinfer was not found; searched:\n {2}- .*absent\npip install 'tensorrt-cu13==10\.\*', or apt install libnvinfer10/,
      ),
    ])
    const tactics = await run(['build', model, '--tactic-sources', 'CUBLASS'], environment('none'))
    expect([tactics.code, tactics.stderr]).toEqual([
      2,
      expect.stringContaining("tacticSources holds 'CUBLASS'"),
    ])
  })

  it('shows the GPU that was asked for, and no other', async () => {
    const shown = await run(
      ['build', model, ...small, '--device-id', '5', '--dry-run'],
      environment('gpu', { CUDA_VISIBLE_DEVICES: '2,3' }),
    )
    expect([shown.code, shown.stderr]).toEqual([
      1,
      expect.stringContaining('GPU 5 was asked for, CUDA_VISIBLE_DEVICES shows 2'),
    ])
    expect(
      (await run(['build', model, ...small, '--device-id', '1', '--dry-run'], environment('gpu'))).code,
    ).toBe(0)
  })

  it('is what the sweep of all knobs does, row by row, with a journal to go on with', async () => {
    const [journal, work] = [join(root, 'sweep.jsonl'), join(root, 'sweep')]
    const given = ['--model', model, '--journal', journal, '--work', work, '--tokens', '32', '--rounds', '3']
    const start = (only: string) =>
      run(
        [...given, '--only', only],
        environment('sweep', { FAKE_NVINFER_DIMENSIONS: '32' }),
        fileURLToPath(new URL('../../benchmarks/gpu/sweep.mjs', import.meta.url)),
      )
    expect((await start('^base$')).code).toBe(0)
    const both = await start('^base$|^tactics CUBLAS$')
    expect([both.code, both.stdout.includes('== base')]).toEqual([0, false])
    const rows = (await readFile(journal, 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as object)
    expect(rows).toMatchObject([
      {
        key: 'base',
        outcome: 'measured',
        precision: 'fp8',
        times: [{ batchSize: 1 }, { batchSize: 8 }, { batchSize: 32 }],
      },
      { key: 'tactics CUBLAS', outcome: 'measured', usedTacticSources: ['CUBLAS'] },
    ])
    expect(both.stdout).toMatch(
      /\| tactics CUBLAS \|.*not available: CUBLAS; no effect: same tactics \(CUBLAS\) \|\n$/,
    )
    // Plans go after their row; timings stay.
    expect(await readdir(join(work, 'engines'))).toEqual([expect.stringMatching(/^timings-/)])
  })

  it('comes before verify-precision, which says so', async () => {
    const { code, stderr } = await run(['verify-precision', model, ...small], environment('unbuilt'))
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(
        "the plan of tiny-bert cannot be used: it was never built; 'akidb-embedding build'",
      ),
    ])
    expect((await run(['build', model, ...small], environment('unbuilt'))).code).toBe(0)
    const empty = await run(['verify-precision', model, ...small], environment('unbuilt'))
    // The fake's engines have no layers, the tiny model has linear ones.
    expect([empty.code, empty.stdout]).toEqual([
      1,
      expect.stringContaining('0 of 12 linear layers run in fp32'),
    ])
  })
})

describe('verify-precision on what the inspector wrote', { timeout: 90_000 }, () => {
  it('exits with 0 when all is FP8, with 1 when one is not', async () => {
    const good = await run(
      ['verify-precision', '--layers', layersFile, '--precision', 'fp8'],
      environment('x'),
    )
    expect([good.code, good.stdout]).toEqual([
      0,
      expect.stringContaining('8 of 8 matrix products run in fp8'),
    ])
    expect(good.stdout).toContain('attention  2 fused kernels in 2 profiles')
    const text = await readFile(layersFile, 'utf8')
    const fallen = join(root, 'fallen.json')
    await writeFile(fallen, text.replace('gemm_e4m3bf16_e4m3f32', 'gemm_bf16bf16_bf16f32'))
    const bad = await run(
      ['verify-precision', '--layers', fallen, '--precision', 'fp8', '--json'],
      environment('x'),
    )
    expect(bad.code).toBe(1)
    expect(JSON.parse(bad.stdout)).toMatchObject({
      gemmsByPrecision: { fp8: 7, bf16: 1 },
      verdict: { isGood: false },
    })
    const every = await run(['verify-precision', '--layers', layersFile, '--all'], environment('x'))
    expect([every.code, every.stdout]).toEqual([0, expect.stringContaining('_gemm_mha_v2')])
    expect((await run(['verify-precision', '--layers', '/nope'], environment('x'))).stderr).toContain(
      'error FILE_UNREADABLE',
    )
  })
})
