import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeEngineContract, pack } from '../../../test/engine-contract.ts'
import { cacheDir } from '../../../test/fixtures/real-model.ts'
import { writeTinyBert } from '../../../test/fixtures/tiny-model.ts'
import { writeTinyQwen3 } from '../../../test/fixtures/tiny-qwen3.ts'
import { readTinyQwen3Reference, readTinyReference } from '../../../test/fixtures/tiny-reference.ts'
import { describeNodeProfiler } from '../../../test/node-profiler-cases.ts'
import { describeModelPorts } from '../../../test/rectangular-engine-cases.ts'
import { findOpenvinoLibrary } from '../../hardware/machine/openvino-library.ts'
import { exportOnnx } from '../../model/onnx-export.ts'
import { openvinoRuntimeFolders } from '../../model/pull/openvino-runtime.ts'
import { loadModelSpec, type ModelSpec } from '../../model/spec.ts'
import { createEngine } from '../create.ts'
import type { OpenvinoEngineOptions } from './openvino-engine.ts'

const folders = openvinoRuntimeFolders(cacheDir)
const explicitPath = process.env['AKIDB_OPENVINO_LIBRARY']
const { found } = findOpenvinoLibrary({ explicitPath, folders })

describe.skipIf(found === undefined)(
  'OpenVINO (skipped where AKIDB_OPENVINO_LIBRARY or the cache has none)',
  () => {
    let folder: string
    let spec: ModelSpec
    let onnxPath: string
    let qwen3: Pick<OpenvinoEngineOptions, 'spec' | 'onnxPath'>

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'openvino-engine-'))
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

    const create = (options: Partial<OpenvinoEngineOptions> = {}) =>
      createEngine('openvino', {
        spec,
        onnxPath,
        libraryPath: found!.path,
        precision: 'fp32',
        threads: 2,
        maxBatchSize: 128,
        maxBatchTokens: 8192,
        ...options,
      })

    describe('contract', async () => {
      const reference = await readTinyReference('bert', 'mean')
      const exact = { vocabularySize: 300, reference, tolerance: { absolute: 1e-5, minCosine: 0.999999 } }
      describeEngineContract('openvino', create, exact)
      describeEngineContract('openvino with two streams', () => create({ streams: 2 }), exact)
      describeEngineContract('openvino at bf16', () => create({ precision: 'bf16' }), {
        ...exact,
        tolerance: { absolute: 0.02, minCosine: 0.999 },
      })
      describeEngineContract('openvino on a decoder', () => create(qwen3), {
        ...exact,
        reference: await readTinyQwen3Reference(),
      })
    })
    describe('its nodes', () => {
      describeNodeProfiler(() => create({ profileNodes: true }), 'FullyConnected')
    })
    describeModelPorts('openvino', (portSpec, path) => create({ spec: portSpec, onnxPath: path }))

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
        code: 'OPENVINO_STATUS',
        details: {
          api: 'ov_core_read_model',
          status: -1,
          reason: expect.stringMatching(/general error: .+/) as string,
        },
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
      await using engine = await create({ spec: { ...spec, maxTokens: 500 } })
      const before = await engine.embed(pack([[1, 2, 3], [4]]))
      // The tiny model has 64 positions: the graph itself fails on longer sequences.
      await expect(engine.embed(pack([Array.from({ length: 200 }, () => 5)]))).rejects.toMatchObject({
        code: 'ENGINE_FAILED',
        cause: { code: 'OPENVINO_STATUS' },
      })
      expect((await engine.embed(pack([[1, 2, 3], [4]]))).values).toEqual(before.values)
    })
  },
)
