/** The script that makes Qwen3 folders for benchmarks: what it writes is a model that this package serves. */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadModelSpec } from '../../src/model/spec.ts'
import { openSafetensors } from '../../src/model/safetensors.ts'
import { createTokenizer } from '../../src/serving/tokenizer/worker-tokenizer.ts'
import { startServer } from '../fixtures/start-tiny-server.ts'

const run = promisify(execFile)
const script = fileURLToPath(new URL('../../scripts/make-qwen3.mjs', import.meta.url))

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'make-qwen3-'))
})
afterAll(() => rm(root, { recursive: true }))

async function make(name: string, ...flags: string[]): Promise<string> {
  const folder = join(root, name)
  await run(process.execPath, [
    script,
    '--size',
    'tiny',
    '--tokenizer',
    'bytes',
    '--output',
    folder,
    ...flags,
  ])
  return folder
}

function readWeights(folder: string): Promise<Buffer> {
  return readFile(join(folder, 'model.safetensors'))
}

describe('scripts/make-qwen3.mjs', () => {
  test('writes a model of the shape that is asked for, ending texts as Qwen3-Embedding does', async () => {
    const spec = await loadModelSpec(await make('shape', '--layers', '3', '--heads', '8'))
    expect(spec).toMatchObject({
      family: 'qwen3',
      layerCount: 3,
      hiddenSize: 64,
      headCount: 8,
      keyValueHeadCount: 2,
      headSize: 16,
      vocabularySize: 512,
      pooling: 'last-token',
      normalize: true,
      maxTokens: 32_768,
      padTokenId: 256,
    })
    expect(Object.keys(spec.prompts)).toEqual(['query', 'document'])
    await using tokenizer = await createTokenizer({
      tokenizerPath: spec.files.tokenizer,
      workerCount: 0,
      maxTextChars: 100,
    })
    const [encoded] = await tokenizer.encode(['hé'], { maxTokens: 10, truncation: 'none' })
    expect([...encoded!.ids]).toEqual([0x68, 0xc3, 0xa9, 256])
  })

  test('draws weights as those of trained models where asked', async () => {
    const folder = await make('trained', '--scale', 'trained')
    await using tensors = await openSafetensors([join(folder, 'model.safetensors')])
    const deviation = async (name: string) => {
      const weights = await tensors.readFloat32(name)
      return Math.sqrt(weights.reduce((sum, value) => sum + value * value, 0) / weights.length)
    }
    expect(await deviation('embed_tokens.weight')).toBeCloseTo(1, 1)
    // Two layers of hidden size 64, feed-forward 128.
    expect(await deviation('layers.0.self_attn.q_proj.weight')).toBeCloseTo(1 / 8, 2)
    expect(await deviation('layers.1.mlp.down_proj.weight')).toBeCloseTo(1 / Math.sqrt(128 * 4), 2)
    await expect(make('unknown', '--scale', 'huge')).rejects.toThrow('--scale huge is not known')
  })

  test('draws weights of deviation 0.02, norms of 1', async () => {
    await using tensors = await openSafetensors([join(await make('weights'), 'model.safetensors')])
    const weights = await tensors.readFloat32('embed_tokens.weight')
    const mean = weights.reduce((sum, value) => sum + value, 0) / weights.length
    const deviation = Math.sqrt(weights.reduce((sum, value) => sum + value * value, 0) / weights.length)
    expect(Math.abs(mean)).toBeLessThan(5e-4)
    expect(deviation).toBeCloseTo(0.02, 3)
    // 68.27 % of a normal distribution lie within one deviation.
    const near = weights.filter((value) => Math.abs(value) < 0.02).length / weights.length
    expect(near).toBeCloseTo(0.683, 1.5)
    expect(new Set(await tensors.readFloat32('layers.1.self_attn.q_norm.weight'))).toEqual(new Set([1]))
    const [one, other] = await Promise.all(
      [0, 1].map((layer) => tensors.readFloat32(`layers.${layer}.mlp.up_proj.weight`)),
    )
    expect(one!.filter((value, i) => value === other![i]).length).toBeLessThan(one!.length / 100)
  })

  test('the same seed gives the same bytes, another one others, shards or not', async () => {
    const [first, second, other] = await Promise.all([
      make('first'),
      make('second'),
      make('other', '--seed', '2'),
    ])
    expect((await readWeights(second)).equals(await readWeights(first))).toBe(true)
    expect((await readWeights(other)).equals(await readWeights(first))).toBe(false)
    const sharded = await make('sharded', '--shard-bytes', '50000')
    expect((await readdir(sharded)).filter((name) => name.endsWith('.safetensors')).length).toBeGreaterThan(2)
    const spec = await loadModelSpec(sharded)
    await using shards = await openSafetensors(spec.files.weights)
    await using whole = await openSafetensors([join(first, 'model.safetensors')])
    expect([...shards.names()].sort()).toEqual([...whole.names()].sort())
    for (const name of whole.names()) {
      expect(Buffer.from(await shards.readBytes(name)).equals(await whole.readBytes(name))).toBe(true)
    }
  })

  test('what it writes is served', async () => {
    await using running = await startServer({ model: await make('served') }, join(root, 'cache'))
    const response = await running.server.app.inject({
      method: 'POST',
      url: '/embed',
      payload: { inputs: ['the sky is blue', 'Zwölf Boxkämpfer'] },
    })
    expect(response.statusCode).toBe(200)
    expect(response.json<number[][]>().map((vector) => vector.length)).toEqual([64, 64])
  })

  test.each([
    [['--size', '9B'], '--size 9B'],
    [['--layers', '0'], '--layers'],
    [['--lairs', '3'], '--lairs'],
    [['--vocabulary', '100'], 'ids up to 256'],
    [['--tokenizer', '/nowhere/tokenizer.json'], '/nowhere/tokenizer.json'],
  ])('refuses %j', async (flags, words) => {
    await expect(make('refused', ...flags)).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringContaining(words),
    })
  })
})
