import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tensor } from 'onnxruntime-node'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { maxDifference, runOnnx } from '../../../test/fixtures/run-onnx.ts'
import { decodeFloat32 } from '../../../test/fixtures/tiny-model.ts'
import {
  readTinyQwen3Golden,
  tinyQwen3HiddenSize as hiddenSize,
  type TinyQwen3Options,
  tinyQwen3Tensors,
  writeTinyQwen3,
} from '../../../test/fixtures/tiny-qwen3.ts'
import { type ExportOptions, exportOnnx } from '../onnx-export.ts'
import { loadModelSpec, type Pooling } from '../spec.ts'

const golden = await readTinyQwen3Golden()

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'decoder-graph-'))
})
afterAll(() => rm(root, { recursive: true }))

let exports = 0
async function exportTiny(
  options: ExportOptions & { pooling?: Pooling } = {},
  model: TinyQwen3Options = {},
): Promise<string> {
  const folder = join(root, String(exports++))
  await writeTinyQwen3(folder, model)
  const path = join(folder, 'graph.onnx')
  const { pooling = 'last-token', ...rest } = options
  await exportOnnx({ ...(await loadModelSpec(folder)), pooling }, path, rest)
  return path
}

test('the model has the weights that the golden values were made of', async () => {
  const hash = createHash('sha256')
  for (const { values } of await tinyQwen3Tensors()) hash.update(values)
  expect(hash.digest('hex')).toBe(golden.weightsSha256)
})

describe('the qwen3 graph', () => {
  test.each([
    {},
    { prefix: 'model.' },
    { config: { rope_theta: null, rope_parameters: { rope_theta: 1e6 } } },
  ])('answers as transformers does (%j)', async (model) => {
    const path = await exportTiny({}, model)
    for (const { ids, mask, hidden } of golden.cases) {
      const { last_hidden_state: output } = await runOnnx(path, ids, mask)
      expect(output!.dims).toEqual([ids.length, ids[0]!.length, hiddenSize])
      expect(maxDifference(output!.data, decodeFloat32(hidden), mask)).toBeLessThan(2e-5)
    }
    expect(golden.cases.map(({ name }) => name)).toEqual(['right', 'long'])
  })

  test('a wrong base of the rotary positions would show', async () => {
    const path = await exportTiny({}, { config: { rope_theta: 10_000 } })
    const { ids, mask, hidden } = golden.cases[0]!
    const { last_hidden_state: output } = await runOnnx(path, ids, mask)
    expect(maxDifference(output!.data, decodeFloat32(hidden), mask)).toBeGreaterThan(1e-2)
  })

  test('what stands at padding does not matter', async () => {
    const path = await exportTiny()
    const { ids, mask } = golden.cases[0]!
    const other = ids.map((row, i) => row.map((id, j) => (mask[i]![j] === 1 ? id : 77)))
    expect(other).not.toEqual(ids)
    const plain = await runOnnx(path, ids, mask)
    const padded = await runOnnx(path, other, mask)
    expect(
      maxDifference(padded['last_hidden_state']!.data, plain['last_hidden_state']!.data, mask),
    ).toBeLessThan(1e-6)
  })

  test.each(['last-token', 'mean', 'cls'] as const)('pools by %s inside the graph', async (pooling) => {
    const path = await exportTiny({ output: 'pooled', pooling })
    for (const { ids, mask, hidden } of golden.cases) {
      const { sentence_embedding: output } = await runOnnx(path, ids, mask)
      expect(output!.dims).toEqual([ids.length, hiddenSize])
      const expected = pool(pooling, decodeFloat32(hidden), mask)
      const everyRow = ids.map(() => [1])
      expect(maxDifference(output!.data, expected, everyRow)).toBeLessThan(2e-5)
    }
  })

  test('takes embeddings in place of ids', async () => {
    const path = await exportTiny({ output: 'pooled', inputs: 'embeddings' })
    const { ids, mask, hidden } = golden.cases[0]!
    const { values: table } = (await tinyQwen3Tensors()).find(({ name }) => name === 'embed_tokens.weight')!
    const rows = Float32Array.from(
      ids.flat().flatMap((id) => [...table.subarray(id * hiddenSize, (id + 1) * hiddenSize)]),
    )
    const embeddings = new Tensor('float32', rows, [ids.length, ids[0]!.length, hiddenSize])
    const { sentence_embedding: output } = await runOnnx(path, ids, mask, {
      input_ids: undefined,
      inputs_embeds: embeddings,
    })
    const expected = pool('last-token', decodeFloat32(hidden), mask)
    expect(
      maxDifference(
        output!.data,
        expected,
        ids.map(() => [1]),
      ),
    ).toBeLessThan(2e-5)
  })

  test.each([
    [{ rope_scaling: { rope_type: 'yarn', factor: 4 } }, 'MODEL_CONFIG_INVALID', "rope_scaling 'yarn'"],
    [{ use_sliding_window: true }, 'MODEL_CONFIG_INVALID', 'sliding window'],
    [{ layer_types: ['sliding_attention'] }, 'MODEL_CONFIG_INVALID', 'sliding window'],
    [{ hidden_act: 'relu' }, 'MODEL_CONFIG_INVALID', "'relu'"],
    [{ num_key_value_heads: 3 }, 'MODEL_CONFIG_INVALID', 'multiple'],
    [{ num_hidden_layers: 4 }, 'MODEL_FILE_CORRUPT', "'layers.3.input_layernorm.weight'"],
    [{ attention_bias: true }, 'MODEL_FILE_CORRUPT', "'layers.0.self_attn.q_proj.bias'"],
  ])('refuses %j', async (config, code, words) => {
    await expect(exportTiny({}, { config })).rejects.toMatchObject({
      code,
      message: expect.stringContaining(words),
    })
  })

  test('has no fp16, and says why', async () => {
    await expect(exportTiny({ precision: 'fp16' })).rejects.toMatchObject({
      code: 'PRECISION_UNSUPPORTED',
      message: expect.stringContaining('bf16'),
    })
  })
})

function pool(pooling: Pooling, hidden: Float32Array, mask: readonly (readonly number[])[]): Float32Array {
  return Float32Array.from(
    mask.flatMap((row, i) => {
      const length = row.reduce((sum, bit) => sum + bit, 0)
      const token = (place: number) => {
        const start = (i * row.length + place) * hiddenSize
        return [...hidden.subarray(start, start + hiddenSize)]
      }
      if (pooling === 'cls') return token(0)
      if (pooling === 'last-token') return token(length - 1)
      const tokens = Array.from({ length }, (_, place) => token(place))
      return token(0).map((_, column) => tokens.reduce((sum, each) => sum + each[column]!, 0) / length)
    }),
  )
}
