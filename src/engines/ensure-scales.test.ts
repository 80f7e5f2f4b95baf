import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeTinyQwen3 } from '../../test/fixtures/tiny-qwen3.ts'
import { type CalibratedScales, inputScale, loadActivationScales } from '../model/activation-scales.ts'
import { loadModelSpec, type ModelSpec } from '../model/spec.ts'
import { ensureScales, type EnsureScalesOptions } from './ensure-scales.ts'

let root: string
let spec: ModelSpec
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'ensure-scales-'))
  await writeTinyQwen3(join(root, 'model'))
  spec = await loadModelSpec(join(root, 'model'))
})
afterAll(() => rm(root, { recursive: true }))

const sequences = [Int32Array.of(5, 6, 7), Int32Array.of(200, 100)]
const ensure = (options: Partial<EnsureScalesOptions> = {}) =>
  ensureScales({ spec, cacheDir: join(root, 'cache'), sequences, threads: 1, ...options })

test('scales are measured once for a model and its texts', async () => {
  const phases = new Set<string>()
  const first = await ensure({ onProgress: ({ phase }) => phases.add(phase) })
  expect(first.fromCache).toBe(false)
  expect([...phases]).toEqual(['export', 'measure'])
  expect(await ensure()).toEqual({ ...first, fromCache: true })
  expect(await loadActivationScales(first.path, spec.contentHash)).toEqual(first.scales)
  expect((await ensure({ sequences: sequences.slice(1) })).fromCache).toBe(false)
  expect((await ensure({ sequences: sequences.slice(1), margin: 2 })).fromCache).toBe(false)
  expect(await readdir(join(root, 'cache', 'scales'))).toEqual([`${spec.contentHash}.json`])
})

test('a model too large for the memory is refused with the way out', async () => {
  await expect(ensure({ cacheDir: join(root, 'other'), freeBytes: 1000 })).rejects.toMatchObject({
    code: 'SCALES_INVALID',
    message: expect.stringMatching(/0\.0 GB are free|fixed:0\.05/),
  })
})

test('scales of another model, no scales and damaged ones are refused', async () => {
  const { path, scales } = await ensure()
  await expect(loadActivationScales(path, 'another')).rejects.toMatchObject({ code: 'SCALES_INVALID' })
  await expect(loadActivationScales(join(root, 'absent.json'), 'any')).rejects.toMatchObject({
    code: 'SCALES_INVALID',
  })
  const damaged = join(root, 'damaged.json')
  await writeFile(damaged, (await readFile(path, 'utf8')).replace('"calibrated"', '"guessed"'))
  await expect(loadActivationScales(damaged, spec.contentHash)).rejects.toMatchObject({
    code: 'MODEL_FILE_CORRUPT',
  })
  const { 'layer.0.down': _left, ...amax } = scales.amax
  expect(() => inputScale({ ...scales, amax }, 'layer.0.down')).toThrow("'layer.0.down'")
})

test('a scale holds the margin, and a layer that saw only zeros has one too', () => {
  const scales: CalibratedScales = {
    kind: 'calibrated',
    modelHash: 'a',
    textsHash: 'b',
    textCount: 1,
    tokenCount: 1,
    madeBy: 'c',
    margin: 1.5,
    amax: { full: 448, empty: 0 },
  }
  expect(inputScale(scales, 'full')).toBe(1.5)
  expect(inputScale(scales, 'empty')).toBe(1)
  expect(inputScale({ kind: 'fixed', scale: 0.05 }, 'any')).toBe(0.05)
})
