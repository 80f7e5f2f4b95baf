import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { maxDifference, type Rows, runOnnx } from '../../test/fixtures/run-onnx.ts'
import { writeSafetensors } from '../../test/fixtures/safetensors-writer.ts'
import {
  decodeFloat32,
  readTinyGolden,
  tinyFamilies,
  tinyHiddenSize,
  type TinyModelOptions,
  tinyTensors,
  writeTinyBert,
} from '../../test/fixtures/tiny-model.ts'
import { type ExportOptions, exportOnnx } from './onnx-export.ts'
import { loadModelSpec } from './spec.ts'

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'onnx-export-'))
})
afterAll(() => rm(root, { recursive: true }))

async function makeModel(name: string, options?: TinyModelOptions): Promise<string> {
  const folder = join(root, name)
  await writeTinyBert(folder, options)
  return folder
}

async function exportFrom(folder: string, options?: ExportOptions): Promise<string> {
  const path = join(folder, 'out', 'graph.onnx')
  await mkdir(join(folder, 'out'), { recursive: true })
  await exportOnnx(await loadModelSpec(folder), path, options)
  return path
}

async function run(path: string, ids: Rows, mask: Rows): Promise<Float32Array> {
  const { last_hidden_state: hidden } = await runOnnx(path, ids, mask)
  expect(hidden!.dims).toEqual([ids.length, ids[0]!.length, tinyHiddenSize])
  return hidden!.data
}

describe.each(tinyFamilies)('the %s graph', (family) => {
  test('has the weights that the golden values were made of', async () => {
    const hash = createHash('sha256')
    for (const { values } of await tinyTensors(family)) hash.update(values)
    expect(hash.digest('hex')).toBe((await readTinyGolden()).families[family].weightsSha256)
  })

  test('answers as transformers does, padding and full length included', async () => {
    const path = await exportFrom(await makeModel(family, { family }))
    const { cases } = (await readTinyGolden()).families[family]
    for (const { ids, mask, hidden } of cases) {
      expect(maxDifference(await run(path, ids, mask), decodeFloat32(hidden), mask)).toBeLessThan(1e-5)
    }
    expect(cases.map(({ name }) => name)).toContain('long')
  })

  test('what stands at padding does not matter', async () => {
    const path = await exportFrom(await makeModel(`${family}-padding`, { family }))
    const { ids, mask } = (await readTinyGolden()).families[family].cases[0]!
    const other = ids.map((row, i) => row.map((id, j) => (mask[i]![j] === 1 ? id : 77)))
    expect(other).not.toEqual(ids)
    expect(maxDifference(await run(path, other, mask), await run(path, ids, mask), mask)).toBeLessThan(1e-6)
  })
})

describe('exportOnnx', () => {
  test('the same model gives the same bytes', async () => {
    const folder = await makeModel('same')
    const first = await readFile(await exportFrom(folder))
    const second = await readFile(await exportFrom(folder))
    expect(second.equals(first)).toBe(true)
    expect(await readdir(join(folder, 'out'))).toEqual(['graph.onnx'])
  })

  test('weights in a file of their own give the same answers', async () => {
    const folder = await makeModel('external')
    const { ids, mask } = (await readTinyGolden()).families.bert.cases[0]!
    const inline = await run(await exportFrom(folder), ids, mask)
    const path = await exportFrom(folder, { maxInlineBytes: 1 })
    expect((await readdir(join(folder, 'out'))).sort()).toEqual(['graph.onnx', 'graph.onnx.data'])
    expect((await readFile(path)).length).toBeLessThan(20_000)
    expect(await run(path, ids, mask)).toEqual(inline)
  })

  test('every hidden_act answers as transformers does', async () => {
    const { activations, families } = await readTinyGolden()
    const { ids, mask, hidden } = families.bert.cases[0]!
    expect(Object.keys(activations)).toEqual(['gelu_new', 'gelu_pytorch_tanh', 'relu'])
    for (const [activation, expected] of Object.entries(activations)) {
      expect(expected).not.toBe(hidden)
      const folder = await makeModel(`activation-${activation}`, { config: { hidden_act: activation } })
      const values = await run(await exportFrom(folder), ids, mask)
      expect(maxDifference(values, decodeFloat32(expected), mask)).toBeLessThan(1e-5)
    }
  })

  test('progress is told to the end, and a stop leaves no file', async () => {
    const folder = await makeModel('progress')
    const told: { writtenBytes: number; totalBytes: number }[] = []
    await exportFrom(folder, { onProgress: (progress) => told.push(progress) })
    const written = told.map(({ writtenBytes }) => writtenBytes)
    expect(written).toEqual([...written].sort((a, b) => a - b))
    expect(told.at(-1)!.writtenBytes).toBe(told.at(-1)!.totalBytes)
    await rm(join(folder, 'out'), { recursive: true })
    const stop = new AbortController()
    const stopped = exportFrom(folder, {
      signal: stop.signal,
      maxInlineBytes: 1,
      onProgress: () => stop.abort(),
    })
    await expect(stopped).rejects.toMatchObject({ code: 'REQUEST_CANCELLED' })
    expect(await readdir(join(folder, 'out'))).toEqual([])
  })

  test('prefixes and old layer norm names are understood', async () => {
    const folder = await makeModel('prefixed')
    const { ids, mask } = (await readTinyGolden()).families.bert.cases[0]!
    const plain = await run(await exportFrom(folder), ids, mask)
    await rewriteTensors(
      folder,
      (name) =>
        `bert.${name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')}`,
    )
    expect(await run(await exportFrom(folder), ids, mask)).toEqual(plain)
  })

  test('a missing tensor is named, and no file is left', async () => {
    const folder = await makeModel('missing')
    await rewriteTensors(folder, (name) => (name === 'encoder.layer.1.output.dense.bias' ? undefined : name))
    await expect(exportFrom(folder)).rejects.toMatchObject({
      code: 'MODEL_FILE_CORRUPT',
      message: expect.stringContaining("'encoder.layer.1.output.dense.bias'"),
    })
    expect(await readdir(join(folder, 'out'))).toEqual([])
  })

  test('a tensor of another shape is named with both shapes', async () => {
    const folder = await makeModel('shape', { config: { intermediate_size: 65 } })
    await expect(exportFrom(folder)).rejects.toMatchObject({
      code: 'MODEL_FILE_CORRUPT',
      message: expect.stringMatching(
        /'encoder\.layer\.0\.intermediate\.dense\.weight'.*\[64, 32\].*\[65, 32\]/,
      ),
    })
  })

  test.each([
    ['t5', { model_type: 't5' }, 'ARCHITECTURE_UNSUPPORTED', "'t5'; known are bert, roberta, xlm-roberta"],
    [
      'relative positions',
      { position_embedding_type: 'relative_key' },
      'ARCHITECTURE_UNSUPPORTED',
      'relative_key',
    ],
    ['a decoder', { is_decoder: true }, 'ARCHITECTURE_UNSUPPORTED', 'bert as a decoder'],
    ['an activation', { hidden_act: 'silu' }, 'MODEL_CONFIG_INVALID', "'silu'"],
  ])('%s that has no graph is refused', async (name, config, code, words) => {
    const folder = await makeModel(`refused-${name}`, { config })
    await expect(exportFrom(folder)).rejects.toMatchObject({ code, message: expect.stringContaining(words) })
  })

  test('a folder with nothing but ONNX has nothing to export', async () => {
    const folder = await makeModel('onnx-only')
    await rm(join(folder, 'model.safetensors'))
    await writeFile(join(folder, 'model.onnx'), 'any')
    await expect(exportFrom(folder)).rejects.toMatchObject({ code: 'MODEL_FILE_MISSING' })
  })
})

/** @param rename gives undefined for a tensor that is to be left out */
async function rewriteTensors(folder: string, rename: (name: string) => string | undefined): Promise<void> {
  const renamed = (await tinyTensors('bert')).flatMap(({ name, shape, values }) => {
    const newName = rename(name)
    const bytes = new Uint8Array(values.buffer)
    return newName === undefined ? [] : [{ name: newName, dtype: 'F32', shape, bytes }]
  })
  await writeSafetensors(join(folder, 'model.safetensors'), renamed)
}
