import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ArithmeticEngine } from '../../../test/fakes/arithmetic-engine.ts'
import { characterTokenizer } from '../../../test/fakes/arithmetic-pipeline.ts'
import { portModelSpec } from '../../../test/fixtures/port-models.ts'
import { systemClock } from '../batching/clock.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { loadGolden } from './golden.ts'
import { canAffordFp32, makeReferenceGolden, maxReferenceWeightBytes } from './reference-golden.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'reference-golden-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** A model whose weights are two files of this size, with nothing in them. */
async function specOf(name: string, bytes: number): Promise<ModelSpec> {
  const weights = [1, 2].map((shard) => join(folder, `${name}-${shard}.safetensors`))
  for (const path of weights) {
    await using file = await open(path, 'w')
    await file.truncate(bytes / 2)
  }
  const spec = portModelSpec()
  return { ...spec, folder, contentHash: name, maxTokens: 512, files: { ...spec.files, weights } }
}

const create = (made: string[], name: string) => () => {
  made.push(name)
  return Promise.resolve(new ArithmeticEngine(systemClock, () => 0))
}

it('makes them at fp32 where the model is small enough, else at bf16 where there is a plan, else not', async () => {
  const small = await specOf('small', maxReferenceWeightBytes)
  const large = await specOf('large', maxReferenceWeightBytes + 2)
  expect([await canAffordFp32(small), await canAffordFp32(large)]).toEqual([true, false])
  for (const [spec, hasBf16, expected] of [
    [small, true, ['fp32']],
    [large, true, ['bf16']],
    [large, false, []],
  ] as const) {
    const made: string[] = []
    const golden = await makeReferenceGolden(spec, characterTokenizer, folder, {
      createFp32: create(made, 'fp32'),
      createBf16: hasBf16 ? create(made, 'bf16') : undefined,
    })
    expect(made).toEqual(expected)
    expect(golden?.source).toBe(expected.length === 0 ? undefined : 'made')
  }
  expect((await loadGolden(large, folder))?.source).toBe('cache')
})
