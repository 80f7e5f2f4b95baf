/** From settings to plans in the cache, over a libnvinfer whose plans say what they were built from. */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { compileTensorrt, type FakeTensorrt, fakeMachine } from '../../../test/fakes/fake-tensorrt.ts'
import { failureOf } from '../../../test/fakes/failure.ts'
import { canCompile } from '../../../test/fakes/native-library.ts'
import { writeTinyBert } from '../../../test/fixtures/tiny-model.ts'
import type { TensorrtMachine } from '../../hardware/machine/tensorrt-library.ts'
import { exportOnnx } from '../../model/onnx-export.ts'
import { loadModelSpec } from '../../model/spec.ts'
import { findMissingLibraries } from './builder.ts'
import { layersPath, listEngines, readRecord } from './engine-cache.ts'
import {
  ensurePlans,
  type EnsurePlansOptions,
  findPlans,
  listWantedPlans,
  type PlanProgress,
} from './ensure-plans.ts'
import type { PlanSettings } from './plan.ts'
import { readPrebuiltPlan } from './plan-check.ts'
import { toProfiles } from './profiles.ts'

let root: string
let onnxPath: string
let fake: FakeTensorrt
let machine: TensorrtMachine

const settings: PlanSettings = {
  precision: 'fp8',
  inputs: 'ids',
  output: 'pooled',
  profiles: toProfiles('low=1/1/2,high=2/8/16', '64,128', 512),
  enginePerProfile: false,
  tacticSources: ['CUBLAS', 'EDGE_MASK_CONVOLUTIONS'],
  workspaceBytes: 2 ** 30,
  builderOptimizationLevel: 5,
}
const planText = [
  'fakeplan pooled ids 384 4096',
  '1 1 2 1 64 64',
  '1 1 2 65 128 128',
  '2 8 16 1 64 64',
  '2 8 16 65 128 128',
  'level 5 workspace 1073741824 tactics 9 build',
]

async function textOf(path: string): Promise<string[]> {
  return (await readFile(path, 'utf8')).trimEnd().split('\n')
}

describe.skipIf(!canCompile)('plans', () => {
  let cachePath: string
  let exports = 0
  let notes: string[] = []

  const optionsWith = (changes: Partial<EnsurePlansOptions> = {}): EnsurePlansOptions => ({
    modelName: 'org/Tiny Model',
    onnx: {
      key: 'content-1',
      ensure: async () => {
        exports++
        return onnxPath
      },
    },
    settings,
    machine,
    cachePath,
    onNote: (note) => notes.push(note),
    ...changes,
  })

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'plans-'))
    await writeTinyBert(join(root, 'model'))
    onnxPath = join(root, 'model.onnx')
    await exportOnnx(await loadModelSpec(join(root, 'model')), onnxPath)
    fake = compileTensorrt(100_600)
    machine = fakeMachine(fake)
  })
  afterAll(() => rm(root, { recursive: true }))
  beforeEach(async () => {
    cachePath = await mkdtemp(join(root, 'cache-'))
    exports = 0
    notes = []
    fake.clear()
    fake.setMode('describe', 1)
  })
  afterEach(() => {
    for (const mode of ['describe', 'fail_build', 'fail_engine', 'parse_errors', 'step_ms'])
      fake.setMode(mode, 0)
    const isWrong = fake.calls().some((line) => line.startsWith('WRONG'))
    const left = fake.live() + machine.tensorrt.children.count
    if (left > 0 || isWrong) throw new Error(`${left} objects left; wrong table entry called: ${isWrong}`)
  })

  it('are built with every setting, and hold what they should', async () => {
    const [plan, ...others] = await ensurePlans(optionsWith())
    expect(others).toEqual([])
    expect(plan).toMatchObject({
      precision: 'fp8',
      profiles: settings.profiles,
      inputs: 'ids',
      output: 'pooled',
      fromCache: false,
    })
    expect((await textOf(plan!.path)).map((line) => line.replace(/ build \d+$/, ' build'))).toEqual(planText)
    const record = await readRecord(dirname(plan!.path))
    expect(record).toMatchObject({
      tacticSources: ['CUBLAS', 'EDGE_MASK_CONVOLUTIONS'],
      sizeBytes: plan!.sizeBytes,
      identity: {
        tensorrt: '10.6.0',
        driver: '580.65.06',
        gpu: machine.device.name,
        computeCapability: '9.0',
      },
    })
    // The tiny model's: query, key, value, output, two of the MLP; two layers.
    expect(record!.linearNodes).toHaveLength(12)
    expect(await readFile(layersPath(plan!.path), 'utf8')).toBe('{"Layers": []}')
    expect(notes).toContain(
      'not available: CUBLAS, since libcublas was not loaded; put its folder into LD_LIBRARY_PATH, or leave the source out',
    )
    expect(notes).toContain('TensorRT warning: a weight is subnormal')
    expect(fake.calls()).toContain('IBuilderConfig::setProfilingVerbosity 2')
  })

  it('come from the cache the second time, without a build and without an export', async () => {
    const [first] = await ensurePlans(optionsWith())
    const builds = fake.builds()
    const [second] = await ensurePlans(optionsWith())
    expect(second).toEqual({ ...first, fromCache: true })
    expect([fake.builds() - builds, exports]).toEqual([0, 1])
    expect(await findPlans(optionsWith())).toEqual({ plans: [second], reasons: [] })
  })

  it('may be one a profile', async () => {
    const plans = await ensurePlans(optionsWith({ settings: { ...settings, enginePerProfile: true } }))
    expect(
      plans.map(({ profiles }) => profiles.map(({ name, maxTokens }) => `${name} ${maxTokens}`)),
    ).toEqual([
      ['low 64', 'low 128'],
      ['high 64', 'high 128'],
    ])
    expect((await textOf(plans[1]!.path)).slice(0, 3)).toEqual([planText[0], planText[3], planText[4]])
  })

  it.each<[string, (options: EnsurePlansOptions) => Partial<EnsurePlansOptions>]>([
    ['model', () => ({ onnx: { key: 'content-2', ensure: async () => onnxPath } })],
    ['level', () => ({ settings: { ...settings, builderOptimizationLevel: 3 } })],
    ['workspace', () => ({ settings: { ...settings, workspaceBytes: 2 ** 29 } })],
    ['tactic sources', () => ({ settings: { ...settings, tacticSources: 'default' } })],
    ['precision', () => ({ settings: { ...settings, precision: 'bf16' } })],
    [
      'profiles',
      () => ({ settings: { ...settings, profiles: toProfiles('low=1/1/2,high=2/8/16', '64,127', 512) } }),
    ],
    ['driver', () => ({ machine: { ...machine, driverVersion: '590.10' } })],
    ['chip', () => ({ machine: { ...machine, device: { ...machine.device, multiprocessorCount: 114 } } })],
  ])('of another %s are others', async (_what, change) => {
    await ensurePlans(optionsWith())
    const options = optionsWith(change(optionsWith()))
    const { plans, reasons } = await findPlans(options)
    expect([plans, reasons]).toEqual([undefined, ['it was never built']])
  })

  it('of another machine, put in the place of this one, are not taken but kept', async () => {
    const elsewhere = { ...machine, driverVersion: '535.01' }
    const [theirs] = await ensurePlans(optionsWith({ machine: elsewhere }))
    const { folder } = listWantedPlans(optionsWith())[0]!
    await mkdir(folder)
    for (const name of await readdir(dirname(theirs!.path))) {
      await writeFile(join(folder, name), await readFile(join(dirname(theirs!.path), name)))
    }
    const { reasons } = await findPlans(optionsWith())
    expect(reasons).toEqual([`${folder} is an engine of another machine (driver 535.01, here 580.65.06)`])
    const [plan] = await ensurePlans(optionsWith())
    expect(plan!.fromCache).toBe(false)
    const kinds = (await listEngines(cachePath)).map(
      ({ kind, record }) => `${kind} ${record?.identity.driver}`,
    )
    expect(kinds.toSorted()).toEqual(['backup 535.01', 'engine 535.01', 'engine 580.65.06'])
  })

  it.each<[string, string, (path: string) => Promise<void>]>([
    ['cut short', 'engine.plan has 10 bytes of', (path) => truncate(path, 10)],
    [
      'changed in one byte',
      'the bytes of engine.plan have changed',
      async (path) => {
        const bytes = await readFile(path)
        bytes[20]! ^= 1
        await writeFile(path, bytes)
        await utimes(path, 1, 1)
      },
    ],
    ['gone', 'ENOENT', (path) => rm(path)],
    [
      'without a readable record',
      'record.json is missing or damaged',
      (path) => writeFile(join(dirname(path), 'record.json'), '{'),
    ],
  ])('that are %s are built anew, which is said, and kept', async (_what, damage, harm) => {
    const [first] = await ensurePlans(optionsWith())
    await harm(first!.path)
    notes = []
    const [second] = await ensurePlans(optionsWith())
    expect(second).toMatchObject({ path: first!.path, fromCache: false })
    expect((await textOf(second!.path))[0]).toBe(planText[0])
    const said = notes.find((note) => note.includes('is damaged'))
    expect(said).toContain(damage)
    expect(said).toMatch(/kept as .*\.bak until 'engines prune', built anew$/)
    expect(existsSync(/kept as (.*\.bak)/.exec(said!)![1]!)).toBe(true)
  })

  it('that were copied with another time are hashed, and taken', async () => {
    const [plan] = await ensurePlans(optionsWith())
    await utimes(plan!.path, 1, 1)
    expect((await findPlans(optionsWith())).plans).toHaveLength(1)
  })

  it('are built anew on demand, the old one kept', async () => {
    const [first] = await ensurePlans(optionsWith())
    const before = await textOf(first!.path)
    const [second] = await ensurePlans(optionsWith({ rebuild: true }))
    expect(await textOf(second!.path)).not.toEqual(before)
    const backup = (await listEngines(cachePath)).find(({ kind }) => kind === 'backup')!
    expect(await textOf(join(backup.folder, 'engine.plan'))).toEqual(before)
  })

  it('are built once by callers at the same time', async () => {
    const builds = fake.builds()
    const plans = (await Promise.all([1, 2, 3].map(() => ensurePlans(optionsWith())))).flat()
    expect(fake.builds() - builds).toBe(1)
    expect(plans.filter(({ fromCache }) => !fromCache)).toHaveLength(1)
    expect(new Set(plans.map(({ path }) => path)).size).toBe(1)
  })

  it('tell how far they are, while the event loop turns', async () => {
    const seen: PlanProgress[] = []
    await ensurePlans(optionsWith({ onProgress: (progress) => seen.push(progress) }))
    expect([...new Set(seen.map(({ stage }) => stage))]).toEqual([
      'export',
      'parse',
      'build',
      'check',
      'write',
    ])
    const ratios = seen.filter(({ stage }) => stage === 'build').map(({ ratio }) => ratio!)
    expect(ratios.length).toBeGreaterThan(3)
    expect(ratios).toEqual(ratios.toSorted((a, b) => a - b))
    expect(ratios.at(-1)).toBe(1)
  })

  it('stop on the way, and go on with the timings that were taken', async () => {
    const stop = new AbortController()
    const stopped = ensurePlans(
      optionsWith({
        signal: stop.signal,
        onProgress: ({ stage, ratio = 0 }) => stage === 'build' && ratio > 0 && stop.abort(),
      }),
    )
    expect((await failureOf(stopped)).code).toBe('REQUEST_CANCELLED')
    expect(await listEngines(cachePath)).toEqual([])
    const timings = (await readdir(cachePath)).find((name) => name.endsWith('.cache'))
    expect(timings).toMatch(/^timings-10\.6\.0-sm90-132-/)
    const first = await readFile(join(cachePath, timings!), 'utf8')
    expect(first).toMatch(/^\[build \d+\]$/)
    await ensurePlans(optionsWith())
    // What the second build was given, and what both know in the end.
    expect(fake.calls()).toContain(`IBuilderConfig::createTimingCache ${first.length} ${first}`)
    expect(await readFile(join(cachePath, timings!), 'utf8')).toMatch(/^(\[build \d+\]){3}$/)
    expect((await readdir(cachePath)).filter((name) => /lock|tmp/.test(name))).toEqual([])
  })

  it('do without timings that TensorRT does not take, and say so', async () => {
    await ensurePlans(optionsWith())
    const name = (await readdir(cachePath)).find((each) => each.endsWith('.cache'))
    await writeFile(join(cachePath, name!), 'bad')
    await ensurePlans(optionsWith({ rebuild: true }))
    expect(notes.find((note) => note.includes('are left aside'))).toContain('the timing cache is damaged')
    expect(await readFile(join(cachePath, name!), 'utf8')).toMatch(/^\[build \d+\]$/)
  })

  it("keep TensorRT's words when a build fails, with what helps", async () => {
    fake.setMode('fail_build', 1)
    const error = await failureOf(ensurePlans(optionsWith()))
    expect([error.code, error.message]).toEqual([
      'ENGINE_BUILD_FAILED',
      `TensorRT cannot build an engine of ${onnxPath}: IBuilder::buildSerializedNetwork: Error Code 10: workspace of 16 MiB is too small; raise --workspace-bytes, or allow more with --tactic-sources default`,
    ])
    expect(await listEngines(cachePath)).toEqual([])
  })

  it('say what helps where the GPU has no memory left, in the build and behind it', async () => {
    fake.setMode('fail_build', 2)
    const build = await failureOf(ensurePlans(optionsWith()))
    expect([build.code, build.message]).toEqual([
      'ENGINE_BUILD_FAILED',
      expect.stringMatching(/OutOfMemory .*; stop what else uses the GPU, or lower the largest profile/),
    ])
    fake.setMode('fail_build', 0)
    fake.setMode('fail_engine', 2)
    const load = await failureOf(ensurePlans(optionsWith()))
    expect([load.code, load.message]).toEqual([
      'PLAN_UNUSABLE',
      expect.stringMatching(/out of memory\); stop what else uses the GPU$/),
    ])
    expect(await listEngines(cachePath)).toEqual([])
  })

  it('name the node that cannot be parsed', async () => {
    fake.setMode('parse_errors', 1)
    const error = await failureOf(ensurePlans(optionsWith()))
    expect([error.code, error.message]).toEqual([
      'ONNX_NOT_PARSED',
      expect.stringContaining("'/encoder/NonZeroish_3'"),
    ])
  })

  it('are not kept when the engine gives something else than was asked for', async () => {
    fake.setMode('describe', 2)
    const error = await failureOf(ensurePlans(optionsWith()))
    expect([error.code, error.message]).toEqual([
      'PLAN_UNUSABLE',
      expect.stringContaining('its output is tokens, wanted is pooled'),
    ])
    expect(await listEngines(cachePath)).toEqual([])
  })

  it('may be brought: shapes are read from the engine, and checked against the model', async () => {
    fake.setLayers('{"Layers": [{"LayerType": "gemm", "TacticName": "sm90_xmma_gemm_bf16bf16"}]}')
    const path = join(root, 'own.plan')
    await writeFile(path, planText.join('\n'))
    const plan = await readPrebuiltPlan(path, machine.tensorrt, 384)
    fake.setLayers('{"Layers": []}')
    expect(plan).toMatchObject({ path, precision: 'bf16', inputs: 'ids', output: 'pooled', fromCache: false })
    expect(plan.profiles[3]).toEqual({ ...settings.profiles[3], name: 'profile_3' })
    const other = await failureOf(readPrebuiltPlan(path, machine.tensorrt, 1024))
    expect([other.code, other.message]).toEqual([
      'PLAN_UNUSABLE',
      expect.stringContaining("its vectors have 384 values, the model's have 1024"),
    ])
    fake.setMode('fail_engine', 1)
    expect((await failureOf(readPrebuiltPlan(path, machine.tensorrt, 384))).message).toContain(
      'not compatible with this version of TensorRT',
    )
    expect((await failureOf(readPrebuiltPlan(join(root, 'absent'), machine.tensorrt, 384))).code).toBe(
      'FILE_UNREADABLE',
    )
  })
})

describe('tactic sources', () => {
  it('whose libraries were not loaded are named; those inside TensorRT need none', () => {
    const loaded = ['/opt/libcublas.so.12', '/opt/libcublasLt.so.12', '/opt/libcudnn_graph.so.9']
    const all = ['CUBLAS', 'CUBLAS_LT', 'CUDNN', 'EDGE_MASK_CONVOLUTIONS', 'JIT_CONVOLUTIONS'] as const
    expect(findMissingLibraries(all, loaded)).toEqual([])
    expect(findMissingLibraries(all, ['/opt/libcublasLt.so.12']).map((note) => note.slice(0, 60))).toEqual([
      'not available: CUBLAS, since libcublas was not loaded; put i',
      'not available: CUDNN, since libcudnn was not loaded; put its',
    ])
  })
})
