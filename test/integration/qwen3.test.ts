/** A Qwen3 folder, served from end to end on the CPU. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { cosine } from '../../src/engines/vectors.ts'
import { startServer } from '../fixtures/start-tiny-server.ts'
import { readTinyQwen3Reference } from '../fixtures/tiny-reference.ts'
import { writeTinyQwen3 } from '../fixtures/tiny-qwen3.ts'

test('a Qwen3 folder without modules.json is served: token ids in, the vectors of transformers out', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'akidb-qwen3-'))
  try {
    await writeTinyQwen3(join(folder, 'tiny-qwen3'), { weights: 'BF16', prefix: 'model.' })
    await using running = await startServer({ model: join(folder, 'tiny-qwen3') }, join(folder, 'cache'))
    const reference = await readTinyQwen3Reference()
    const response = await running.server.app.inject({
      method: 'POST',
      url: '/v1/embeddings',
      payload: { model: 'tiny-qwen3', input: reference.map(({ ids }) => ids) },
    })
    expect(response.statusCode).toBe(200)
    const { data } = response.json<{ data: { embedding: number[] }[] }>()
    expect(data).toHaveLength(reference.length)
    for (const [i, { pooled }] of reference.entries()) {
      // The weights were rounded to bf16 for this folder.
      expect(cosine(Float32Array.from(data[i]!.embedding), pooled)).toBeGreaterThan(0.999)
    }
  } finally {
    await rm(folder, { recursive: true })
  }
})
