import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeTinyQwen3 } from '../../test/fixtures/tiny-qwen3.ts'
import type { ActivationScales } from './activation-scales.ts'
import type { ExportOptions } from './onnx-export.ts'
import { readOnnxMetadata } from './onnx/model-metadata.ts'
import { ensureExport, ensureExportAt, ensureOnnx, exportKey } from './onnx-file.ts'
import { loadModelSpec } from './spec.ts'

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'onnx-file-'))
  await writeTinyQwen3(join(root, 'model'))
})
afterAll(() => rm(root, { recursive: true }))

const fixed = (scale: number): ActivationScales => ({ kind: 'fixed', scale })

test('an export is made once, and another one for every option that changes it', async () => {
  const spec = await loadModelSpec(join(root, 'model'))
  const cache = join(root, 'cache')
  const first = await ensureExport(spec, cache)
  const { mtimeMs } = await stat(first.path)
  expect(first.fromCache).toBe(false)
  expect(await ensureExport(spec, cache)).toEqual({ path: first.path, fromCache: true })
  expect((await stat(first.path)).mtimeMs).toBe(mtimeMs)
  const variants: ExportOptions[] = [
    { precision: 'bf16' },
    { output: 'pooled' },
    { inputs: 'embeddings' },
    { precision: 'fp8', scales: fixed(0.05) },
    { precision: 'fp8', scales: fixed(0.06) },
  ]
  for (const options of variants) expect((await ensureExport(spec, cache, options)).fromCache).toBe(false)
  expect(await readdir(join(cache, 'onnx'))).toHaveLength(1 + variants.length)
  expect(exportKey({ ...spec, contentHash: 'other' })).not.toBe(exportKey(spec))
  expect(exportKey({ ...spec, pooling: 'mean' }, { output: 'pooled' })).not.toBe(
    exportKey(spec, { output: 'pooled' }),
  )
})

test('an export at a place of its own is known again by what it holds', async () => {
  const spec = await loadModelSpec(join(root, 'model'))
  const path = join(root, 'place.onnx')
  const options: ExportOptions = { precision: 'bf16', maxInlineBytes: 1 }
  expect(await ensureExportAt(spec, path, options)).toBe(false)
  expect(await ensureExportAt(spec, path, options)).toBe(true)
  expect(await readOnnxMetadata(path)).toMatchObject({ precision: 'bf16', data: 'place.onnx.data' })
  await rm(`${path}.data`)
  expect(await ensureExportAt(spec, path, options)).toBe(false)
  expect(await ensureExportAt(spec, path, { ...options, output: 'pooled' })).toBe(false)
  await writeFile(path, 'no model at all')
  expect(await ensureExportAt(spec, path, options)).toBe(false)
})

test('a file of someone else has no metadata', async () => {
  expect(await readOnnxMetadata(join(root, 'absent.onnx'))).toBeUndefined()
  const decoder = fileURLToPath(new URL('../../test/fixtures/ports/decoder.onnx', import.meta.url))
  expect((await readOnnxMetadata(decoder))?.['key']).toBeUndefined()
})

test("the folder's own ONNX file goes before an export", async () => {
  const folder = join(root, 'with-onnx')
  await writeTinyQwen3(folder)
  await mkdir(join(folder, 'onnx'))
  await writeFile(join(folder, 'onnx', 'model.onnx'), 'any')
  const path = await ensureOnnx(await loadModelSpec(folder), join(root, 'other-cache'))
  expect(path).toBe(join(folder, 'onnx', 'model.onnx'))
})
