import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readTinyQwen3Golden, writeTinyQwen3 } from '../../../test/fixtures/tiny-qwen3.ts'
import { writeTinyBert } from '../../../test/fixtures/tiny-model.ts'
import { loadModelSpec } from '../../model/spec.ts'
import { createOnnxObserver } from '../onnx/onnx-observer.ts'
import { type ActivationObserver, calibrate } from './calibrate.ts'
import { readDefaultTexts } from './default-texts.ts'

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'calibrate-'))
})
afterAll(() => rm(root, { recursive: true }))

describe('calibrate', () => {
  /** Layer 'a' sees the largest id, layer 'b' the number of tokens. */
  const observer: ActivationObserver = {
    linearLayers: ['a', 'b'],
    madeBy: 'arithmetic 1 fp32',
    observe: async (ids) => Float32Array.of(Math.max(...ids), ids.length),
  }
  const sequences = [Int32Array.of(3, 900), Int32Array.of(1, 2, 3, 4), Int32Array.of(7)]

  test('keeps the largest value of each layer over all sequences', async () => {
    const told: number[] = []
    const scales = await calibrate(observer, {
      modelHash: 'abc',
      sequences,
      margin: 1.5,
      onProgress: ({ done }) => told.push(done),
    })
    expect(scales).toMatchObject({
      kind: 'calibrated',
      modelHash: 'abc',
      textCount: 3,
      tokenCount: 7,
      margin: 1.5,
      madeBy: 'arithmetic 1 fp32',
      amax: { a: 900, b: 4 },
    })
    expect(told).toEqual([0, 1, 2])
  })

  test('the same texts have the same hash, others another', async () => {
    const hashes = await Promise.all(
      [sequences, sequences, sequences.slice(1)].map(
        async (each) => (await calibrate(observer, { modelHash: 'abc', sequences: each })).textsHash,
      ),
    )
    expect(new Set(hashes).size).toBe(2)
    expect(hashes[0]).toBe(hashes[1])
  })

  test('refuses no texts and values that are not finite, with the layer', async () => {
    await expect(calibrate(observer, { modelHash: 'abc', sequences: [] })).rejects.toMatchObject({
      code: 'SCALES_INVALID',
    })
    const broken = { ...observer, observe: async () => Float32Array.of(1, NaN) }
    await expect(calibrate(broken, { modelHash: 'abc', sequences })).rejects.toMatchObject({
      code: 'SCALES_INVALID',
      message: expect.stringContaining('NaN before b'),
    })
  })

  test('stops between two texts', async () => {
    const stop = new AbortController()
    const stopping = {
      ...observer,
      observe: async () => {
        stop.abort()
        return Float32Array.of(1, 1)
      },
    }
    await expect(
      calibrate(stopping, { modelHash: 'abc', sequences, signal: stop.signal }),
    ).rejects.toMatchObject({ code: 'REQUEST_CANCELLED' })
  })
})

describe('createOnnxObserver', () => {
  test('sees what torch sees before every linear layer', async () => {
    const folder = join(root, 'qwen3')
    await writeTinyQwen3(folder)
    const spec = await loadModelSpec(folder)
    const golden = await readTinyQwen3Golden()
    const sequences = golden.cases.flatMap(({ ids, mask }) =>
      ids.map((row, i) => Int32Array.from(row.filter((_, token) => mask[i]![token] === 1))),
    )
    {
      await using observer = await createOnnxObserver({ spec, threads: 1, workFolder: join(folder, 'work') })
      const { amax } = await calibrate(observer, { modelHash: spec.contentHash, sequences })
      expect(Object.keys(amax)).toEqual(Object.keys(golden.amax))
      for (const [layer, value] of Object.entries(golden.amax))
        expect(amax[layer], layer).toBeCloseTo(value, 4)
    }
    expect(await readdir(folder)).not.toContain('work')
  })

  test('knows the layers of an encoder', async () => {
    const folder = join(root, 'bert')
    await writeTinyBert(folder)
    const spec = await loadModelSpec(folder)
    await using observer = await createOnnxObserver({ spec, threads: 1, workFolder: join(folder, 'work') })
    expect(observer.linearLayers).toEqual(
      [0, 1].flatMap((layer) =>
        ['attention.qkv', 'attention.dense', 'up', 'down'].map((part) => `layer.${layer}.${part}`),
      ),
    )
    const amax = await observer.observe(Int32Array.of(2, 77, 78, 3))
    expect(amax.every((value) => value > 0 && value < 100)).toBe(true)
  })
})

test('the default texts are many, and none twice', async () => {
  const texts = await readDefaultTexts()
  expect(texts.length).toBeGreaterThanOrEqual(128)
  expect(new Set(texts).size).toBe(texts.length)
  expect(texts.filter((text) => text.length > 800).length).toBeGreaterThanOrEqual(10)
})
