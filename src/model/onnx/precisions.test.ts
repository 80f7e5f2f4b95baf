/** bf16, fp16 and fp8 exports: what they hold, and what they compute as far as something here can run them. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { evaluateOnnx, installOnnx } from '../../../test/fixtures/evaluate-onnx.ts'
import { minCosine, runOnnx } from '../../../test/fixtures/run-onnx.ts'
import {
  decodeFloat32,
  readTinyGolden,
  tinyFamilies,
  writeTinyBert,
} from '../../../test/fixtures/tiny-model.ts'
import { readTinyReference } from '../../../test/fixtures/tiny-reference.ts'
import { readTinyQwen3Golden, writeTinyQwen3 } from '../../../test/fixtures/tiny-qwen3.ts'
import type { ActivationScales } from '../activation-scales.ts'
import { inputScale } from '../activation-scales.ts'
import { readHfConfig } from '../hf-config.ts'
import { exportOnnx } from '../onnx-export.ts'
import { openSafetensors } from '../safetensors.ts'
import { loadModelSpec, type ModelSpec } from '../spec.ts'
import { buildDecoderGraph } from './decoder-graph.ts'
import { buildEncoderGraph } from './encoder-graph.ts'
import { toEncoderShape } from './encoder-shape.ts'
import { toDecoderShape } from './decoder-shape.ts'
import { findModelWeights } from './model-weights.ts'
import { writeOnnxModel } from './model-writer.ts'

const golden = await readTinyQwen3Golden()
const encoders = (await readTinyGolden()).families
const onnxFolder = await installOnnx()

const calibrated: ActivationScales = {
  kind: 'calibrated',
  modelHash: 'any',
  textsHash: 'any',
  textCount: 4,
  tokenCount: 114,
  madeBy: 'transformers',
  margin: golden.margin,
  amax: golden.amax,
}

let root: string
let qwen3: ModelSpec
const bert: Partial<Record<(typeof tinyFamilies)[number], ModelSpec>> = {}
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'precisions-'))
  await writeTinyQwen3(join(root, 'qwen3'))
  qwen3 = await loadModelSpec(join(root, 'qwen3'))
  for (const family of tinyFamilies) {
    await writeTinyBert(join(root, family), { family })
    bert[family] = await loadModelSpec(join(root, family))
  }
})
afterAll(() => rm(root, { recursive: true }))

// TensorRT 10.6 refuses a Slice without axes where it takes fewer than all of them.
test.each(tinyFamilies)('every Slice of %s names its axes', async (family) => {
  const spec = bert[family]!
  const config = await readHfConfig(spec.folder, spec.files.config)
  await using tensors = await openSafetensors(spec.files.weights)
  const weights = findModelWeights(tensors, spec.files.weights, 'encoder')
  const { nodes } = buildEncoderGraph(toEncoderShape(spec, config, family), weights, {
    type: 'float',
    output: 'tokens',
    inputs: 'ids',
    pooling: 'mean',
  })
  const slices = nodes.filter(({ opType }) => opType === 'Slice')
  expect(slices.length).toBe(family === 'bert' ? 1 : 0)
  for (const { inputs } of slices) expect(inputs).toHaveLength(4)
})

describe('fp8', () => {
  // Nothing on a CPU multiplies bf16: the same graph with f32 between the Q/DQ pairs shows all that E4M3 does.
  test('rounds inputs and weights as torch does, layer by layer', async () => {
    const config = await readHfConfig(qwen3.folder, qwen3.files.config)
    await using tensors = await openSafetensors(qwen3.files.weights)
    const weights = findModelWeights(tensors, qwen3.files.weights, 'decoder')
    const graph = buildDecoderGraph(toDecoderShape(config, qwen3.files.config), weights, {
      type: 'float',
      output: 'tokens',
      inputs: 'ids',
      pooling: 'last-token',
      inputScale: (layer) => inputScale(calibrated, layer),
    })
    const quantized = graph.nodes.filter(({ opType }) => opType === 'QuantizeLinear')
    const products = graph.nodes.filter(({ name }) => name.endsWith('.product'))
    expect([quantized.length, products.length]).toEqual([12, 12])
    const path = join(root, 'float8.onnx')
    await writeOnnxModel(graph, { irVersion: 9, opsetVersion: 20 }, path)
    for (const { ids, mask, hidden, float8Hidden } of golden.cases) {
      const { last_hidden_state: output } = await runOnnx(path, ids, mask, {}, false)
      const expected = decodeFloat32(float8Hidden)
      // A sum in another order can move an activation over the edge of its E4M3 step, seldom and a little.
      expect(minCosine(output!.data, expected, mask)).toBeGreaterThan(0.995)
      expect(minCosine(output!.data, decodeFloat32(hidden), mask)).toBeLessThan(0.995)
    }
  })

  test('a layer that was not measured is named', async () => {
    const { 'layer.1.gate_up': _left, ...amax } = golden.amax
    const scales: ActivationScales = { ...calibrated, amax }
    await expect(
      exportOnnx(qwen3, join(root, 'incomplete.onnx'), { precision: 'fp8', scales }),
    ).rejects.toMatchObject({ code: 'SCALES_INVALID', message: expect.stringContaining("'layer.1.gate_up'") })
    await expect(exportOnnx(qwen3, join(root, 'none.onnx'), { precision: 'fp8' })).rejects.toMatchObject({
      code: 'SCALES_INVALID',
    })
  })

  test('is a quarter of the size of fp32 in the linear layers, and the same bytes every time', async () => {
    const scales: ActivationScales = { kind: 'fixed', scale: 0.05 }
    const bytes = async (name: string, precision: 'fp8' | 'bf16') => {
      const path = join(root, name)
      await exportOnnx(qwen3, path, { precision, scales, output: 'pooled' })
      return readFile(path)
    }
    const first = await bytes('first.onnx', 'fp8')
    expect((await bytes('second.onnx', 'fp8')).equals(first)).toBe(true)
    // 3 layers of 2 x 2048 (query, output) + 2 x 1024 (key, value) + 3 x 1536 weights, a byte less each; Q/DQ nodes cost some.
    expect((await bytes('half.onnx', 'bf16')).length - first.length).toBeGreaterThan(0.6 * 3 * 10_752)
  })
})

describe.each(tinyFamilies)('%s', (family) => {
  test('at fp16 is near fp32', async () => {
    const path = join(root, `${family}-fp16.onnx`)
    await exportOnnx(bert[family]!, path, { precision: 'fp16' })
    const { ids, mask, hidden } = encoders[family].cases[0]!
    const { last_hidden_state: output } = await runOnnx(path, ids, mask)
    expect(minCosine(output!.data, decodeFloat32(hidden), mask)).toBeGreaterThan(0.99999)
  })

  test.each(['mean', 'cls', 'last-token'] as const)('pools by %s inside the graph', async (pooling) => {
    const path = join(root, `${family}-${pooling}.onnx`)
    await exportOnnx({ ...bert[family]!, pooling }, path, { output: 'pooled' })
    const { ids, mask } = encoders[family].cases[0]!
    const { sentence_embedding: output } = await runOnnx(path, ids, mask)
    const expected = (await readTinyReference(family, pooling)).flatMap(({ pooled }) => [...pooled])
    const everyRow = ids.map(() => [1])
    expect(minCosine(output!.data, Float32Array.from(expected), everyRow)).toBeGreaterThan(0.999999)
  })
})

describe.skipIf(onnxFolder === undefined)('what ONNX itself says (onnx by pip)', () => {
  test('every precision is valid, and computes what it should', async () => {
    const { ids, mask, hidden, bfloat16Hidden, float8Hidden } = golden.cases[0]!
    const inputs = { input_ids: ids, attention_mask: mask }
    const precisions = ['fp32', 'bf16', 'fp8'] as const
    const files = precisions.map((precision) => ({ path: join(root, `qwen3-${precision}.onnx`), inputs }))
    for (const [i, precision] of precisions.entries()) {
      await exportOnnx(qwen3, files[i]!.path, { precision, scales: calibrated })
    }
    const outputs = await evaluateOnnx(onnxFolder!, files)
    const cosines = outputs.map(({ last_hidden_state: output }) =>
      minCosine(output!, decodeFloat32(hidden), mask),
    )
    const theirs = [bfloat16Hidden, float8Hidden].map((each) =>
      minCosine(decodeFloat32(each), decodeFloat32(hidden), mask),
    )
    expect(cosines[0]).toBeGreaterThan(0.999999)
    // Residuals and norms are f32 here, bf16 in theirs.
    expect(cosines[1]).toBeGreaterThan(theirs[0]!)
    expect(cosines[2]).toBeGreaterThan(theirs[1]! - 0.002)
  })

  test.each(tinyFamilies)('%s is valid and right at bf16 and fp8', async (family) => {
    const { ids, mask, hidden } = encoders[family].cases[0]!
    const scales: ActivationScales = { kind: 'fixed', scale: 0.05 }
    const files = (['bf16', 'fp8'] as const).map((precision) => ({
      precision,
      path: join(root, `${family}-${precision}.onnx`),
      inputs: { input_ids: ids, attention_mask: mask },
    }))
    for (const { path, precision } of files) await exportOnnx(bert[family]!, path, { precision, scales })
    const [half, eighth] = await evaluateOnnx(onnxFolder!, files)
    expect(minCosine(half!['last_hidden_state']!, decodeFloat32(hidden), mask)).toBeGreaterThan(0.9998)
    expect(minCosine(eighth!['last_hidden_state']!, decodeFloat32(hidden), mask)).toBeGreaterThan(0.99)
  })

  test.each(['mean', 'cls', 'last-token'] as const)('pooled output by %s is valid', async (pooling) => {
    const inputs = { input_ids: golden.cases[0]!.ids, attention_mask: golden.cases[0]!.mask }
    const files = [qwen3, bert.bert!].map((spec) => ({
      spec,
      path: join(root, `${spec.architecture}-${pooling}.onnx`),
      inputs,
    }))
    for (const { spec, path } of files) {
      await exportOnnx({ ...spec, pooling }, path, { precision: 'bf16', output: 'pooled' })
    }
    const outputs = await evaluateOnnx(onnxFolder!, files)
    expect(outputs.map(({ sentence_embedding: vectors }) => vectors!.length)).toEqual([96, 96])
  })
})
