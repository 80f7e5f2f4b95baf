import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { portModelPath } from '../../../test/fixtures/port-models.ts'
import { writeTinyBert } from '../../../test/fixtures/tiny-model.ts'
import { loadConfig } from '../../config/load.ts'
import { cosine } from '../../engines/vectors.ts'
import { startPipeline } from '../../serving/pipeline/start-pipeline.ts'
import { createPlainLoop } from './plain-loop.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'plain-loop-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('the plain loop', () => {
  it.each(['mean', 'cls', 'lasttoken'] as const)('%s: gives the vectors of the service', async (pooling) => {
    const model = join(folder, pooling)
    const cacheDir = join(folder, 'cache')
    await writeTinyBert(model, { pooling })
    await using loop = await createPlainLoop(model, { cacheDir, threads: 1 })
    expect(loop.runtimeVersion).toMatch(/^\d+\.\d+/)
    const config = loadConfig({ flags: { model, engine: 'onnx', tokenizerWorkers: 0 } })
    const { pipeline } = await startPipeline(config, { cacheDir })
    await using owned = pipeline
    // Cut to the model's length, too.
    const texts = ['a plain loop', 'x', 'one more of many words '.repeat(40)]
    const { vectors } = await owned.embed({ inputs: texts, truncation: 'right' })
    for (const [i, text] of texts.entries())
      expect(cosine(await loop.embed(text), vectors[i]!)).toBeGreaterThan(0.999999)
  })
  it('refuses a graph that asks for more than ids', async () => {
    const model = join(folder, 'decoder')
    await writeTinyBert(model)
    await mkdir(join(model, 'onnx'))
    await copyFile(portModelPath('decoder'), join(model, 'onnx', 'model.onnx'))
    await expect(createPlainLoop(model, { cacheDir: folder })).rejects.toMatchObject({
      code: 'ENGINE_UNAVAILABLE',
      message: expect.stringContaining('does not know the inputs') as unknown,
    })
  })
})
