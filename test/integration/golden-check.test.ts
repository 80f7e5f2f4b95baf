/** No engine answers before it has matched the golden vectors. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createEmbedder } from '../../src/index.ts'
import { writeTinyBert } from '../fixtures/tiny-model.ts'

let folder: string
let options: Parameters<typeof createEmbedder>[0] & object
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'akidb-golden-'))
  const model = join(folder, 'tiny')
  await writeTinyBert(model)
  options = {
    model,
    cacheDir: join(folder, 'cache'),
    engine: 'onnx',
    threads: 1,
    tokenizerWorkers: 0,
    offline: true,
  }
})
afterEach(() => rm(folder, { recursive: true }))

const toBase64 = (vector: Float32Array): string =>
  Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength).toString('base64')

describe('golden check', () => {
  it('makes the vectors once, by model, and reads them from the cache afterwards', async () => {
    for (const source of ['made', 'cache']) {
      await using embedder = await createEmbedder(options)
      expect(embedder.startup.golden).toMatchObject({
        source,
        madeBy: expect.stringContaining('onnx') as string,
      })
      expect(embedder.startup.golden.worstCosine).toBeGreaterThan(0.99999)
    }
  })

  it("takes the folder's golden.json, and refuses an engine that disagrees with it", async () => {
    const text = 'the cat'
    const vector = await (async () => {
      await using embedder = await createEmbedder(options)
      return Float32Array.from((await embedder.embed([text]))[0]!)
    })()
    const path = join(options.model!, 'golden.json')
    await writeFile(path, JSON.stringify({ madeBy: 'a test', items: [{ text, vector: toBase64(vector) }] }))
    {
      await using embedder = await createEmbedder(options)
      expect(embedder.startup.golden).toMatchObject({ source: 'folder', madeBy: 'a test' })
    }
    vector[0]! += 0.1
    await writeFile(path, JSON.stringify({ madeBy: 'a test', items: [{ text, vector: toBase64(vector) }] }))
    await expect(createEmbedder(options)).rejects.toMatchObject({
      code: 'NO_ENGINE',
      message: expect.stringMatching(
        /onnx fp32: .*disagrees with the golden vectors: worst cosine 0\.99\d+, needed 0\.9999/,
      ) as string,
    })
    await writeFile(path, '{"items": []}')
    await expect(createEmbedder(options)).rejects.toMatchObject({
      code: 'MODEL_FILE_CORRUPT',
      message: expect.stringContaining('golden.json') as string,
    })
  })
})
