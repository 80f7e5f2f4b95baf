import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { writeTinyBert } from '../../../test/fixtures/tiny-model.ts'
import { loadConfig } from '../../config/load.ts'
import { readLinearNodes } from '../../model/onnx/linear-nodes.ts'
import { loadModelSpec, type ModelSpec } from '../../model/spec.ts'
import { scalesPath } from '../../model/activation-scales.ts'
import { toOnnxSource } from './onnx-source.ts'
import { toPlanSettings } from './plan-settings.ts'

let root: string
let spec: ModelSpec
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'onnx-source-'))
  await writeTinyBert(join(root, 'model'))
  spec = await loadModelSpec(join(root, 'model'))
})
afterAll(() => rm(root, { recursive: true }))

const settingsFor = (flags: Record<string, unknown>) => toPlanSettings(loadConfig({ flags }), spec)

it('exports what the settings ask for, once, and tells how far it is', async () => {
  const cacheDir = join(root, 'cache')
  const keys = new Set<string>()
  for (const precision of ['fp32', 'bf16'] as const) {
    const { onnx, settings } = await toOnnxSource(spec, settingsFor({ precision }), { cacheDir })
    keys.add(onnx.key)
    const ratios: (number | undefined)[] = []
    const path = await onnx.ensure({ onProgress: ({ ratio }) => ratios.push(ratio) })
    expect([settings.output, ratios.at(-1)]).toEqual(['pooled', 1])
    expect(await readLinearNodes(path)).toHaveLength(12)
    const bytes = await readFile(path)
    expect(bytes.includes('sentence_embedding')).toBe(true)
    expect(await onnx.ensure({})).toBe(path)
  }
  expect(keys.size).toBe(2)
})

it('wants scales for fp8: measured ones from the cache, a file, or one for all', async () => {
  const cacheDir = join(root, 'scales-cache')
  const fp8 = settingsFor({ precision: 'fp8' })
  const none = await failureOf(toOnnxSource(spec, fp8, { cacheDir }))
  expect([none.code, none.message]).toEqual([
    'SCALES_INVALID',
    expect.stringContaining(scalesPath(cacheDir, spec)),
  ])
  const keyWith = async (scales: string) => (await toOnnxSource(spec, fp8, { cacheDir, scales })).onnx.key
  const file = join(root, 'scales.json')
  await writeFile(file, JSON.stringify({ kind: 'fixed', scale: 0.5 }))
  const [half, tenth] = [await keyWith('fixed:0.5'), await keyWith('fixed:0.1')]
  expect([half === tenth, await keyWith(file)]).toEqual([false, half])
  expect((await failureOf(keyWith('fixed:0'))).code).toBe('SCALES_INVALID')
})

it('takes the ONNX file of a folder without safetensors as it is, at fp32 alone', async () => {
  const own = { ...spec, files: { ...spec.files, weights: [], onnx: '/models/own.onnx' } }
  const { onnx, settings } = await toOnnxSource(own, settingsFor({ precision: 'fp32' }), { cacheDir: root })
  expect([await onnx.ensure({}), settings.output]).toEqual(['/models/own.onnx', 'tokens'])
  for (const flags of [{ precision: 'fp16' }, { precision: 'fp32', embeddingTable: 'host' }]) {
    const error = await failureOf(toOnnxSource(own, settingsFor(flags), { cacheDir: root }))
    expect(error.code).toBe('PRECISION_UNSUPPORTED')
  }
})
