/** profile as a user runs it: the built program and a small model on the CPU's engines. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findOpenvinoLibrary } from '../../src/hardware/machine/openvino-library.ts'
import { openvinoRuntimeFolders } from '../../src/model/pull/openvino-runtime.ts'
import type { EngineProfile } from '../../src/tuning/profiler/profile-engine.ts'
import type { TraceEvent } from '../../src/tuning/profiler/trace.ts'
import { cacheDir } from '../fixtures/real-model.ts'
import { writeTinyBert } from '../fixtures/tiny-model.ts'

const main = fileURLToPath(new URL('../../dist/cli/bin.cjs', import.meta.url))
const openvino = findOpenvinoLibrary({ folders: openvinoRuntimeFolders(cacheDir) }).found
let folder: string
let shared: string[]
beforeAll(async () => {
  if (!existsSync(main)) throw new Error('dist/ is not built; npm test builds it')
  folder = await mkdtemp(join(tmpdir(), 'akidb-profile-'))
  const model = join(folder, 'tiny-bert')
  await writeTinyBert(model)
  shared = ['--model', model, '--cache-dir', join(folder, 'cache'), '--threads', '1', '--offline']
})
afterAll(() => rm(folder, { recursive: true }))

interface Run {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function profile(args: readonly string[], path = process.env['PATH'], interruptOn?: RegExp): Promise<Run> {
  return new Promise((resolve) => {
    const env = { PATH: path, HOME: folder, AKIDB_OPENVINO_LIBRARY: openvino?.path }
    const child = execFile(
      process.execPath,
      [main, 'profile', ...shared, '--texts', '24', ...args],
      { env },
      (error, stdout, stderr) => resolve({ code: (error?.code as number | undefined) ?? 0, stdout, stderr }),
    )
    child.stderr!.on('data', (text: string) => {
      if (interruptOn?.test(text) === true) child.kill('SIGINT')
    })
  })
}

describe('profile', () => {
  it('shows stages and nodes of onnx, and writes all of it', async () => {
    const [json, trace] = [join(folder, 'profile.json'), join(folder, 'trace.json')]
    const workload = ['--texts-per-request', '2', '--clients', '3', '--iterations', '30']
    const { code, stdout } = await profile([
      '--engine',
      'onnx',
      ...workload,
      '--json',
      json,
      '--trace',
      trace,
    ])
    expect(code).toBe(0)
    expect(stdout).toMatch(
      /^tiny-bert, onnx 1\.\d+\.\d+ fp32 on CPU, 1 thread\n24 tokens x 2, 30 requests, 3 at once/,
    )
    expect(stdout.match(/^Time % .* Name$/gm)).toHaveLength(3)
    expect(stdout).toMatch(/ {2}MatMul CPU float$/m)
    expect(stdout).toMatch(/^(pass|FAIL) {2}engine utilisation: \d+ % \(> 80 %\)$/m)
    expect(stdout).toMatch(/^pass {2}products of another precision: none/m)

    const record = JSON.parse(await readFile(json, 'utf8')) as EngineProfile
    const { host, nodes } = record
    expect(host).toMatchObject({ requests: 30, failedRequests: 0, droppedSpans: 0 })
    expect(host.tokensPerSecond / host.textsPerSecond).toBeCloseTo(24, 6)
    expect(host.stages.map(({ instances }) => instances).slice(0, 3)).toEqual([30, 30, 30])
    expect(nodes!.measuredRatio).toBeGreaterThan(0.1)
    expect(nodes!.measuredRatio).toBeLessThan(1.2)
    expect(nodes!.classes.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6)
    // Recorded runs alone: the request's two texts are one rectangle.
    const product = nodes!.nodes.find(({ operation }) => operation === 'MatMul')!
    expect(product.instances).toBe(30)

    const { traceEvents } = JSON.parse(await readFile(trace, 'utf8')) as { traceEvents: TraceEvent[] }
    const tracks = traceEvents.flatMap((event) => (event.name === 'thread_name' ? [event.args['name']] : []))
    for (const track of ['requests', 'tokenize', 'queue', 'batches']) expect(tracks).toContain(track)
    expect(traceEvents.filter(({ ph }) => ph === 'X').length).toBe(3 * 30 + host.batches)
  })

  it.skipIf(openvino === undefined)('shows the nodes of the default engine, fused by OpenVINO', async () => {
    const json = join(folder, 'openvino.json')
    const args = ['--engine', 'openvino', '--precision', 'fp32', '--iterations', '20', '--rows', '3']
    const { code, stdout, stderr } = await profile([...args, '--json', json])
    expect(stderr).toContain(`wrote ${json}`)
    expect(code).toBe(0)
    expect(stdout).toMatch(/openvino \S+ fp32 on CPU/)
    expect(stdout).toMatch(/ {2}in \d+ more$/m)
    const { nodes } = JSON.parse(await readFile(json, 'utf8')) as EngineProfile
    const products = nodes!.operations.filter(({ operation }) => operation === 'FullyConnected')
    expect(products.length).toBeGreaterThan(0)
    for (const { kernel, instances } of products) {
      expect(kernel).toMatch(/f32$/)
      expect(instances % 20).toBe(0)
    }
  })

  it('refuses what cannot be profiled with a code', async () => {
    const empty = join(folder, 'empty.txt')
    await writeFile(empty, '\n')
    const failures = await Promise.all([
      profile(['--engine', 'onnx', '--texts', empty]),
      profile(['--engine', 'onnx', '--iterations', '0']),
      profile(['--engine', 'onnx', '--iterations', '1.5']),
      profile(['--engine', 'onnx', '--nsys']),
      profile(['--engine', 'onnx', '--iterations', '3', '--json', join(folder, 'none', 'x.json')]),
      profile(['--nsys'], join(folder, 'nowhere')),
      profile(['extra']),
    ])
    expect(failures.map(({ code, stderr }) => [code, /^error (\w+)/m.exec(stderr)?.[1]])).toEqual([
      [1, 'WORKLOAD_INVALID'],
      [2, 'USAGE'],
      [2, 'USAGE'],
      [1, 'PROFILE_UNSUPPORTED'],
      [1, 'FILE_UNWRITABLE'],
      [1, 'LIBRARY_NOT_FOUND'],
      [2, 'USAGE'],
    ])
  })

  it('stops at Ctrl-C and leaves no file', async () => {
    const json = join(folder, 'stopped.json')
    const endless = ['--engine', 'onnx', '--iterations', '10000000', '--json', json]
    const { code, stderr } = await profile(endless, process.env['PATH'], /start/)
    expect(code).toBe(1)
    expect(stderr).toContain('error REQUEST_CANCELLED')
    expect(existsSync(json)).toBe(false)
  })

  it('runs itself under nsys and shows its tables', async () => {
    // Stands in for nsys: runs the command it is given, and prints the summary of a recorded report.
    const csv = fileURLToPath(new URL('../fixtures/nsys-stats.csv', import.meta.url))
    const nsys = join(folder, 'nsys')
    await writeFile(
      nsys,
      `#!/bin/sh
if [ "$1" = stats ]; then exec cat '${csv}'; fi
while [ "$1" != '${process.execPath}' ]; do shift; done
exec "$@" --engine onnx
`,
    )
    await chmod(nsys, 0o755)
    const { code, stdout } = await profile(
      ['--nsys', '--iterations', '3', '--rows', '2'],
      `${folder}:${process.env['PATH']}`,
    )
    expect(code).toBe(0)
    expect(stdout).toContain('3 requests, 1 at once')
    expect(stdout).toMatch(/^Time % .* Name\n +71\.3 .* {2}nvjet_\S+$/m)
    expect(stdout).toContain('cuGraphLaunch')
  })
})
