import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { describeEngineContract, pack, rowOf } from '../../../test/engine-contract.ts'
import { portModelSpec } from '../../../test/fixtures/port-models.ts'
import { writeTinyBert } from '../../../test/fixtures/tiny-model.ts'
import { writeTinyQwen3 } from '../../../test/fixtures/tiny-qwen3.ts'
import { readTinyQwen3Reference, readTinyReference } from '../../../test/fixtures/tiny-reference.ts'
import { describeNodeProfiler } from '../../../test/node-profiler-cases.ts'
import { describeModelPorts } from '../../../test/rectangular-engine-cases.ts'
import { exportOnnx } from '../../model/onnx-export.ts'
import { loadModelSpec, type ModelSpec } from '../../model/spec.ts'
import { createEngine } from '../create.ts'
import type { OnnxEngineOptions } from './onnx-engine.ts'

let folder: string
let spec: ModelSpec
let onnxPath: string
let qwen3: Pick<OnnxEngineOptions, 'spec' | 'onnxPath'>

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'onnx-engine-'))
  await writeTinyBert(folder)
  spec = await loadModelSpec(folder)
  onnxPath = join(folder, 'model.onnx')
  await exportOnnx(spec, onnxPath)
  const qwen3Folder = join(folder, 'qwen3')
  await writeTinyQwen3(qwen3Folder)
  qwen3 = { spec: await loadModelSpec(qwen3Folder), onnxPath: join(qwen3Folder, 'model.onnx') }
  await exportOnnx(qwen3.spec, qwen3.onnxPath)
})
afterAll(() => rm(folder, { recursive: true }))

const create = (options: Partial<OnnxEngineOptions> = {}) =>
  createEngine('onnx', {
    spec,
    onnxPath,
    precision: 'fp32',
    threads: 2,
    maxBatchSize: 128,
    maxBatchTokens: 8192,
    ...options,
  })

const contract = {
  vocabularySize: 300,
  reference: await readTinyReference('bert', 'mean'),
  tolerance: { absolute: 1e-5, minCosine: 0.999999 },
}
describeEngineContract('onnx', create, contract)
describeEngineContract('onnx with two streams', () => create({ streams: 2 }), contract)
describeEngineContract('onnx on a decoder', () => create(qwen3), {
  ...contract,
  reference: await readTinyQwen3Reference(),
})
describe('its nodes', () => {
  describeNodeProfiler(() => create({ profileNodes: true }), 'MatMul')

  it('leaves no file behind', async () => {
    const own = await mkdtemp(join(folder, 'tmp-'))
    vi.stubEnv('TMPDIR', own)
    {
      await using engine = await create({ profileNodes: true })
      await engine.embed(pack([[1, 2]]))
      expect(await readdir(own)).toHaveLength(1)
    }
    vi.unstubAllEnvs()
    expect(await readdir(own)).toEqual([])
  })
})
describeModelPorts('onnx', (portSpec, path) => create({ spec: portSpec, onnxPath: path }))

describe('createOnnxEngine', () => {
  it('cuts a batch that is larger than its limits', async () => {
    await using whole = await create()
    await using cut = await create({ maxBatchSize: 3, maxBatchTokens: 40 })
    const batch = pack(
      Array.from({ length: 10 }, (_, i) => Array.from({ length: 1 + i * 6 }, (_x, j) => i + j)),
    )
    const expected = await whole.embed(batch)
    const actual = await cut.embed(batch)
    for (let i = 0; i < 10; i++) {
      rowOf(actual, i).forEach((value, j) => expect(value).toBeCloseTo(rowOf(expected, i)[j]!, 5))
    }
  })

  it('gives coded errors for files that are absent, no model, or cut off', async () => {
    await expect(create({ onnxPath: join(folder, 'absent.onnx') })).rejects.toMatchObject({
      code: 'MODEL_FILE_MISSING',
    })
    await expect(create({ onnxPath: join(folder, 'config.json') })).rejects.toMatchObject({
      code: 'MODEL_FILE_CORRUPT',
    })
    const cutOff = join(folder, 'cut-off.onnx')
    await writeFile(cutOff, (await readFile(onnxPath)).subarray(0, 2000))
    await expect(create({ onnxPath: cutOff })).rejects.toMatchObject({
      code: 'ONNXRUNTIME_STATUS',
      details: { api: 'CreateSession', reason: expect.stringContaining('Protobuf parsing failed') as string },
    })
    await using engine = await create()
    expect((await engine.embed(pack([[1, 2, 3]]))).rows).toBe(1)
  })

  it('names the library that cannot be loaded', async () => {
    await expect(create({ libraryPath: join(folder, 'config.json') })).rejects.toMatchObject({
      code: 'ENGINE_UNAVAILABLE',
      message: expect.stringContaining('config.json') as string,
    })
  })

  it('reports a failing run as ENGINE_FAILED and goes on', async () => {
    await using engine = await create({
      spec: { ...spec, ...portModelSpec(), hiddenSize: 32, maxTokens: 500 },
    })
    const before = await engine.embed(pack([[1, 2, 3], [4]]))
    // The tiny model has 64 positions: the graph itself fails on longer sequences.
    await expect(engine.embed(pack([Array.from({ length: 200 }, () => 5)]))).rejects.toMatchObject({
      code: 'ENGINE_FAILED',
      cause: { code: 'ONNXRUNTIME_STATUS' },
    })
    expect((await engine.embed(pack([[1, 2, 3], [4]]))).values).toEqual(before.values)
  })
})
