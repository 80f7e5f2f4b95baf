/** tune, verify, rollback and serve --tuned as a user runs them, on a real model. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { appendFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSideStarter } from '../../src/tuning/tuner/side-process.ts'
import type { TunedFile } from '../../src/tuning/tuner/tuned-config.ts'
import type { Verification } from '../../src/tuning/tuner/verify-tuned.ts'
import { writeTinyBert } from '../fixtures/tiny-model.ts'

const main = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))
const worker = fileURLToPath(new URL('../../dist/tuning/tuner/side-worker.js', import.meta.url))
let folder: string
let model: string
let output: string
let cache: string[]
beforeAll(async () => {
  if (!existsSync(main)) throw new Error('dist/ is not built; npm test builds it')
  folder = await mkdtemp(join(tmpdir(), 'akidb-tune-'))
  model = join(folder, 'tiny-bert')
  output = join(folder, 'tuned')
  await writeTinyBert(model)
  cache = ['--cache-dir', join(folder, 'cache'), '--offline']
})
afterAll(() => rm(folder, { recursive: true }))

interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function run(args: readonly string[]): Promise<Run> {
  return new Promise((resolve) => {
    const env = { PATH: process.env['PATH'], HOME: folder }
    execFile(process.execPath, [main, ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: (error?.code as number | undefined) ?? 0, stdout, stderr }),
    )
  })
}

const small = ['--clients', '1,2', '--round-ms', '30', '--rounds', '6', '--stages', 'batching,tactics']
const tune = (more: readonly string[]): Promise<Run> =>
  run(['tune', '--model', model, ...cache, '--output', output, ...small, ...more])
const readTuned = async (): Promise<TunedFile> =>
  JSON.parse(await readFile(join(output, 'tuned.json'), 'utf8')) as TunedFile

describe('a run', () => {
  it('writes journal, configuration, report and guide, and goes on when asked', async () => {
    const targets = join(folder, 'targets.json')
    await writeFile(targets, JSON.stringify([{ name: 'any', metric: 'p95Ms', clients: 2, atMost: 60_000 }]))
    const first = await tune(['--trials', '1', '--targets', targets])
    expect(first.stderr).not.toContain('error')
    expect(first.code).toBe(0)
    expect(first.stdout).toContain('maxBatchSize 32')
    expect(first.stdout).toContain('skipped      stage tactics: no NVIDIA GPU')
    expect(first.stdout).toContain('PASS         any')
    expect((await readdir(output)).sort()).toEqual([
      'journal.jsonl',
      'report.html',
      'report.md',
      'tuned.json',
      'tuning-guide.md',
    ])
    const tuned = await readTuned()
    // The default where noise made it look faster: it has no settings of its own.
    expect(tuned.settings).toMatchObject(
      tuned.id === 'untuned' ? { model } : { model, engine: 'onnx', precision: 'fp32' },
    )
    expect(Object.keys(tuned.measured)).toEqual(['1 client', '2 clients'])
    const report = await readFile(join(output, 'report.md'), 'utf8')
    expect(report).toMatch(
      /Where the time goes with 4 clients, by class of the graph's nodes[^#]*\| baseline: product \| [\d.]+ % \|/,
    )
    expect(report).toMatch(/\| engine utilisation, 4 clients \(ours\) \| > 80 % \|/)
    expect(report).toMatch(
      /\| 1 client \| texts\/s \| [\d.]+ \| [\d.]+ \| [\d.]+ \([\d.]+-[\d.]+\) \| within 10 % \| (PASS|FAIL|doubtful)/,
    )
    const again = await tune(['--trials', '1'])
    expect(again.code).toBe(2)
    expect(again.stderr).toContain('--resume')
    // As a crash leaves it.
    await appendFile(join(output, 'journal.jsonl'), '{"kind":"experi')
    const before = await readFile(join(output, 'tuned.json'), 'utf8')
    const resumed = await tune(['--trials', '2', '--resume'])
    expect(await readFile(join(output, 'tuned.json.backup'), 'utf8')).toBe(before)
    expect(resumed.stderr).not.toContain('error')
    const kinds = (await readFile(join(output, 'journal.jsonl'), 'utf8'))
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { kind: string }).kind)
    expect(kinds.filter((kind) => kind === 'experiment')).toHaveLength(2)
    expect(kinds.filter((kind) => kind === 'baseline')).toHaveLength(1)
    // What only the targets ask for is measured at the end, not in the search.
    expect(Object.keys((await readTuned()).measured)).toEqual([
      '1 client',
      '2 clients',
      '4 clients',
      '8 clients',
    ])
    expect(await readFile(join(output, 'report.md'), 'utf8')).toMatch(
      /\| p95, 8 clients \(ours\) \| <= 50.00 ms \| \w+ \| [\d.]+ ms \| [\d.]+ ms \| [\d.]+ ms \|/,
    )
  }, 240_000)

  it('verify measures it again; rollback returns to the baseline, and lists', async () => {
    const path = join(output, 'tuned.json')
    const verified = await run(['verify', path, ...cache, '--round-ms', '30'])
    expect(verified.stdout).toMatch(/(as expected|faster|SLOWER) +1 client +\d/)
    expect(verified.stdout).toContain('pass         quality')
    const record = JSON.parse(verified.stdout.trimEnd().split('\n').at(-1)!) as Verification
    expect(record.scenarios.map(({ scenario }) => scenario)).toContain('8 clients')
    expect(record.quality.passed).toBe(true)
    // Twice as fast as it can be: that must be told.
    const tuned = await readTuned()
    const impossible = { low: 1e9, high: 2e9 }
    const measured = { '1 client': { ...tuned.measured['1 client']!, expected: impossible } }
    await writeFile(path, JSON.stringify({ ...tuned, measured }))
    // The rounds are as long as those of the run.
    expect(tuned.roundMs).toBe(30)
    const slower = await run(['verify', path, ...cache])
    expect(slower.code).toBe(1)
    expect(slower.stdout).toContain('SLOWER')
    expect(slower.stdout).toContain('measured 3 times, since it was slower at first')
    const rolled = await run(['rollback', 'baseline', '--output', output])
    expect(rolled.code).toBe(0)
    expect(await readTuned()).toMatchObject({ id: 'baseline', settings: { model, maxBatchSize: 1 } })
    const listed = (await run(['rollback', '--output', output])).stdout
    expect(listed).toContain('* baseline')
    expect(listed.match(/^ {2}untuned +the defaults$/gm)).toHaveLength(1)
    expect((await run(['rollback', 'e99', '--output', output])).stderr).toContain("'e99' was never kept")
  }, 120_000)

  it('serve takes it, but not where it was made for something else', async () => {
    const path = join(output, 'tuned.json')
    const child = spawn(process.execPath, [main, 'serve', '--tuned', path, '--port', '0', ...cache], {
      env: { PATH: process.env['PATH'], HOME: folder },
    })
    const text = await readUntil(child, 'ready')
    expect(text).toContain('engine   onnx')
    const url = /http:\/\/\S+?:\d+/.exec(text)![0]
    const info = (await (await fetch(`${url}/info`)).json()) as {
      model_id: string
      max_client_batch_size: number
    }
    expect(info.model_id).toBe('tiny-bert')
    child.kill('SIGTERM')
    await new Promise((resolve) => child.once('exit', resolve))
    const tuned = await readTuned()
    const stale = join(folder, 'stale.json')
    await writeFile(stale, JSON.stringify({ ...tuned, key: { ...tuned.key, cpu: 'another CPU' } }))
    const refused = await run(['serve', '--tuned', stale, '--port', '0', ...cache])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('TUNED_STALE')
    expect(refused.stderr).toContain('cpu was another CPU')
  })

  it.each([
    [['--stages', 'batchin'], "did you mean 'batching'"],
    [['--clients', 'x'], "--clients has 'x'"],
    [['now'], "tune takes no 'now'"],
    [['--model', '/nowhere/at/all'], 'MODEL_REFERENCE_INVALID'],
  ])('%j is refused: %s', async (more, message) => {
    const { code, stderr } = await tune(['--output', join(folder, 'other'), ...more])
    expect(stderr).toContain(message)
    expect(code).toBeGreaterThan(0)
  })
})

describe('e2e', () => {
  it('measures, judges, writes results and a report, and its exit code says what came out', async () => {
    const e2e = (targets: string): Promise<Run> => {
      const args = ['--clients', '1,2', '--rounds', '1', '--seconds', '0.1', '--engine', 'onnx']
      const out = ['--output', join(folder, 'e2e'), '--targets', targets]
      return run(['e2e', '--model', model, ...cache, ...args, ...out])
    }
    const easy = join(folder, 'easy.json')
    await writeFile(easy, JSON.stringify([{ name: 'any', metric: 'p95Ms', clients: 2, atMost: 60_000 }]))
    const passed = await e2e(easy)
    expect(passed.stderr).not.toContain('error')
    expect(passed.stdout).toContain('PASS         any')
    expect(passed.code).toBe(0)
    const results = JSON.parse(await readFile(join(folder, 'e2e', 'results.json'), 'utf8')) as {
      passed: boolean
      bench: { rows: { scenario: string }[] }
    }
    expect(results.passed).toBe(true)
    expect(results.bench.rows.map(({ scenario }) => scenario)).toEqual([
      '1 client',
      '2 clients',
      '1 client, lists of 32',
    ])
    const report = await readFile(join(folder, 'e2e', 'completion.md'), 'utf8')
    expect(report).toContain('## PASS')
    expect(report).toMatch(/\| any \| <= 60000.00 ms \| \d+\.\d\d ms \| PASS \|/)
    expect(report).toMatch(/\| worst cosine \| [\d.]+ \| >= 0.99 \| PASS \|/)
    expect(report).not.toMatch(/undefined|\| (NaN|-?Infinity)/)
    const hard = join(folder, 'hard.json')
    await writeFile(hard, JSON.stringify([{ name: 'dream', metric: 'p50Ms', clients: 1, atMost: 1e-6 }]))
    const failed = await e2e(hard)
    expect(failed.stdout).toContain('FAIL         dream')
    expect(failed.code).toBe(1)
  }, 120_000)
})

describe('the process of a side', () => {
  const options = (script = worker) => ({
    shared: { model, offline: true },
    cacheDir: join(folder, 'cache'),
    clients: [1],
    roundMs: 20,
    qualityTexts: 20,
    script,
  })

  it('fails as a candidate when its process dies, and when it hangs', async () => {
    const script = join(folder, 'crash.mjs')
    await writeFile(
      script,
      `process.on('message', ({ kind }) => {
        if (kind === 'start') process.send({ kind: 'started', info: { engine: 'e' } })
        else if (kind === 'measure') { process.stderr.write('last words'); process.kill(process.pid, 'SIGSEGV') }
      })`,
    )
    const side = await createSideStarter(options(script))({})
    await expect(side.measure()).rejects.toThrow(/ended with SIG(SEGV|BUS)/)
    await side[Symbol.asyncDispose]()
    const silent = join(folder, 'silent.mjs')
    await writeFile(silent, `process.on('message', () => {})`)
    const start = createSideStarter({ ...options(silent), timeoutMs: 500 })
    await expect(start({})).rejects.toThrow('said nothing for 0.5 s')
    // Ctrl-C does not wait for what a side does.
    const stop = new AbortController()
    const hangs = createSideStarter({ ...options(silent), signal: stop.signal })({})
    setTimeout(() => stop.abort(), 300)
    await expect(hangs).rejects.toThrow('ended with SIGKILL')
  })

  it('says why it does not start', async () => {
    await expect(createSideStarter(options())({ engine: 'openvino' })).rejects.toThrow(/libopenvino|openvino/)
  })
})

function readUntil(child: ChildProcess, word: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const listen = (chunk: Buffer): void => {
      text += String(chunk)
      if (text.includes(word)) resolve(text)
    }
    child.stdout!.on('data', listen)
    child.stderr!.on('data', listen)
    child.once('exit', () => reject(new Error(`it ended before '${word}':\n${text}`)))
  })
}
