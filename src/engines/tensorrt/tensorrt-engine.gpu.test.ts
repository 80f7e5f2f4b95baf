/** The engine on a real GPU with a real TensorRT: the contract, quality by precision, graphs, overlap, memory. Exports, builds
 * and runs; needs libnvinfer and libnvonnxparser in LD_LIBRARY_PATH or where doctor looks. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeEngineContract, pack, rowOf } from '../../../test/engine-contract.ts'
import { profile } from '../../../test/fakes/tensorrt.ts'
import { hasRealModel, realModelFolder } from '../../../test/fixtures/real-model.ts'
import { realTensorrt } from '../../../test/fixtures/real-tensorrt.ts'
import { decodeFloat32, writeTinyBert } from '../../../test/fixtures/tiny-model.ts'
import {
  readTinyQwen3Golden,
  tinyQwen3HiddenSize,
  writeTinyQwen3,
} from '../../../test/fixtures/tiny-qwen3.ts'
import { readTinyReference } from '../../../test/fixtures/tiny-reference.ts'
import type { StageTimes } from '../../hardware/gpu/stream-pool.ts'
import { openGpu } from '../../hardware/gpu/context.ts'
import { loadModelSpec, type ModelSpec } from '../../model/spec.ts'
import { createTokenizer } from '../../serving/tokenizer/worker-tokenizer.ts'
import type { Engine } from '../engine.ts'
import { cosine, normalizeRows } from '../vectors.ts'
import { ensurePlans } from './ensure-plans.ts'
import { toOnnxSource } from './onnx-source.ts'
import type { Plan, PlanSettings, Profile } from './plan.ts'
import { createTensorrtEngine, type TensorrtEngineOptions } from './tensorrt-engine.ts'

const folder = mkdtempSync(join(tmpdir(), 'tensorrt-gpu-'))
afterAll(() => rmSync(folder, { recursive: true }))

const built = new Map<string, Promise<readonly Plan[]>>()

/** The same plan is built once. Level 1: what is tested is the engine, not TensorRT's choice of kernels. */
function plansOf(spec: ModelSpec, profiles: readonly Profile[], settings: Partial<PlanSettings> = {}) {
  const key = JSON.stringify([spec.contentHash, profiles, settings])
  const plans = built.get(key) ?? buildPlans(spec, profiles, settings)
  built.set(key, plans)
  return plans
}

async function buildPlans(spec: ModelSpec, profiles: readonly Profile[], settings: Partial<PlanSettings>) {
  const wanted: PlanSettings = {
    precision: 'fp32',
    inputs: 'ids',
    output: 'pooled',
    enginePerProfile: false,
    tacticSources: 'default',
    workspaceBytes: 2 ** 30,
    builderOptimizationLevel: 1,
    ...settings,
    profiles,
  }
  const source = await toOnnxSource(spec, wanted, { cacheDir: folder, scales: 'fixed:0.05' })
  const cachePath = join(folder, 'engines')
  return ensurePlans({ modelName: spec.id, ...source, machine: realTensorrt!, cachePath })
}

const profiles = (maxTokens: number) => [
  profile('low_latency', '1/1/2', `1/${maxTokens}/${maxTokens}`),
  profile('high_throughput', '2/8/32', `1/${maxTokens}/${maxTokens}`),
]

/** Last tokens of right-padded sequences, normalised. */
async function readQwen3Reference(): Promise<{ ids: number[]; pooled: Float32Array }[]> {
  const { cases } = await readTinyQwen3Golden()
  const right = cases.find(({ mask }) => mask.every((row) => row[0] === 1))!
  const hidden = decodeFloat32(right.bfloat16Hidden)
  return right.ids.map((row, i) => {
    const length = right.mask[i]!.reduce((sum, bit) => sum + bit, 0)
    const last = (i * row.length + length - 1) * tinyQwen3HiddenSize
    const pooled = hidden.slice(last, last + tinyQwen3HiddenSize)
    normalizeRows(pooled, 1, tinyQwen3HiddenSize)
    return { ids: row.slice(0, length), pooled }
  })
}

const ids = (length: number, seed = 0) => Array.from({ length }, (_, i) => (i * 7919 + seed * 31 + 5) % 300)

describe.skipIf(realTensorrt === undefined)('the TensorRT engine on a GPU', () => {
  let bert: ModelSpec
  let qwen3: ModelSpec
  beforeAll(async () => {
    await writeTinyBert(join(folder, 'bert'))
    await writeTinyQwen3(join(folder, 'qwen3'), { weights: 'BF16' })
    bert = await loadModelSpec(join(folder, 'bert'))
    qwen3 = await loadModelSpec(join(folder, 'qwen3'))
  })

  const create = async (
    spec: ModelSpec,
    settings: Partial<PlanSettings>,
    options: Partial<TensorrtEngineOptions> = {},
  ): Promise<Engine> =>
    createTensorrtEngine({
      spec,
      machine: realTensorrt!,
      plans: await plansOf(spec, profiles(64), settings),
      ...options,
    })
  const createTiny = (settings: Partial<PlanSettings>, options: Partial<TensorrtEngineOptions> = {}) =>
    create(bert, settings, options)

  describe('of BERT', async () => {
    // TF32 multiplies with 10 bits, so batches that take other kernels differ by that.
    const fp32 = {
      vocabularySize: 300,
      reference: await readTinyReference('bert', 'mean'),
      tolerance: { absolute: 5e-3, minCosine: 0.9999 },
    }
    const bf16 = { ...fp32, tolerance: { absolute: 5e-2, minCosine: 0.99 } }
    for (const [name, settings, options] of [
      ['pooled', { output: 'pooled' }, {}],
      ['tokens, three lanes', { output: 'tokens' }, { lanes: 3 }],
      ['an engine each profile', { enginePerProfile: true }, {}],
      ['no graphs, waiting on a thread', {}, { graphs: 0, wait: 'thread' }],
    ] as const) {
      describeEngineContract(`tensorrt, ${name},`, () => createTiny(settings, options), fp32)
    }
    describeEngineContract('tensorrt at bf16', () => createTiny({ precision: 'bf16' }), bf16)
  })

  describe('of Qwen3', async () => {
    const contract = {
      vocabularySize: 300,
      reference: await readQwen3Reference(),
      tolerance: { absolute: 5e-2, minCosine: 0.99 },
    }
    describeEngineContract('tensorrt at bf16', () => create(qwen3, { precision: 'bf16' }), contract)
    describeEngineContract(
      'tensorrt with rows of the vocabulary table',
      () => create(qwen3, { precision: 'bf16', inputs: 'embeddings' }),
      contract,
    )
  })

  it('replays graphs of several shapes in any order, each with its own result', async () => {
    const graphs: Engine = await createTiny({}, { graphs: 3, warmUp: false, lanes: 2 })
    const plain: Engine = await createTiny({}, { graphs: 0, warmUp: false, lanes: 1 })
    const shapes = [1, 2, 5, 9, 17].flatMap((count) => [7, 31, 64].map((length) => [count, length] as const))
    for (let round = 0; round < 60; round++) {
      const [count, length] = shapes[(round * 7) % (round % 3 === 0 ? shapes.length : 3)]!
      const batch = pack(Array.from({ length: count }, (_, i) => ids(length, round + i)))
      const expected = await plain.embed(batch)
      for (const actual of await Promise.all([graphs.embed(batch), graphs.embed(batch)])) {
        for (let row = 0; row < count; row++) {
          expect(cosine(rowOf(actual, row), rowOf(expected, row))).toBeGreaterThan(0.9999)
        }
      }
    }
    const launches = graphs.metrics!.find(({ name }) => name === 'embed_gpu_launches_total')!.read()
    expect(launches[0]!.value).toBeGreaterThan(20)
    await Promise.all([graphs, plain].map((engine) => engine[Symbol.asyncDispose]()))
  })

  it('gives its memory back', async () => {
    using gpu = await openGpu(realTensorrt!.cuda)
    // The first engine of a process loads kernels that stay.
    await (await createTiny({}))[Symbol.asyncDispose]()
    const before = gpu.readMemory().freeBytes
    for (let i = 0; i < 3; i++) {
      const engine = await createTiny({})
      expect(gpu.readMemory().freeBytes).toBeLessThan(before)
      await engine.embed(pack([ids(9)]))
      await engine[Symbol.asyncDispose]()
    }
    expect(before - gpu.readMemory().freeBytes).toBeLessThan(32 << 20)
    expect(realTensorrt!.tensorrt.children.count).toBe(0)
  })
})

describe.skipIf(realTensorrt === undefined || !hasRealModel)(
  'all-MiniLM-L6-v2 with TensorRT on a GPU',
  () => {
    const { items, madeBy } = JSON.parse(
      readFileSync(new URL('../../../test/fixtures/golden-all-MiniLM-L6-v2.json', import.meta.url), 'utf8'),
    ) as { madeBy: string; items: { text: string; vector: string }[] }

    it('copies one batch while another computes', async () => {
      const times: StageTimes[] = []
      const spec = await loadModelSpec(realModelFolder, { cacheDir: folder })
      const plans = await plansOf(spec, profiles(256), { precision: 'fp32' })
      await using engine = await createTensorrtEngine({
        spec,
        machine: realTensorrt!,
        plans,
        onStageTimes: (each) => void times.push(each),
        lanes: 3,
      })
      times.length = 0
      const batch = pack(Array.from({ length: 32 }, (_, i) => ids(256, i)))
      await Promise.all(Array.from({ length: 12 }, () => engine.embed(batch)))
      const overlapping = times.filter((own) =>
        times.some(
          (other) => other !== own && (isBeside(own.h2d, other.compute) || isBeside(own.d2h, other.compute)),
        ),
      )
      expect(times).toHaveLength(12)
      if (!realTensorrt!.device.isIntegrated) expect(overlapping.length).toBeGreaterThan(0)
    })

    it.each([
      ['fp32', 0.9999],
      ['fp16', 0.999],
      ['bf16', 0.995],
    ] as const)(
      `at %s has a worst cosine above %f to ${madeBy}, alone and in batches`,
      async (precision, least) => {
        const spec = await loadModelSpec(realModelFolder, { cacheDir: folder })
        const plans = await plansOf(spec, profiles(256), { precision })
        await using engine = await createTensorrtEngine({ spec, machine: realTensorrt!, plans })
        await using tokenizer = await createTokenizer({
          tokenizerPath: spec.files.tokenizer,
          workerCount: 0,
          maxTextChars: 1 << 20,
        })
        const texts = items.map(({ text }) => text)
        const encoded = await tokenizer.encode(texts, { maxTokens: spec.maxTokens, truncation: 'right' })
        const expected = items.map(
          ({ vector }) => new Float32Array(new Uint8Array(Buffer.from(vector, 'base64')).buffer),
        )
        const together = await engine.embed(pack(encoded.map((input) => Array.from(input.ids))))
        const cosines: number[] = []
        for (const [i, input] of encoded.entries()) {
          const alone = await engine.embed(pack([Array.from(input.ids)]))
          cosines.push(cosine(rowOf(alone, 0), expected[i]!), cosine(rowOf(together, i), expected[i]!))
        }
        console.log(`all-MiniLM-L6-v2 ${precision}: worst cosine ${Math.min(...cosines).toFixed(6)}`)
        expect(Math.min(...cosines)).toBeGreaterThan(least)
      },
      120_000,
    )
  },
)

function isBeside(a: StageTimes[keyof StageTimes], b: StageTimes[keyof StageTimes]): boolean {
  return a!.fromMs < b!.toMs && b!.fromMs < a!.toMs
}
