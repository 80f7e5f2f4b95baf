/** The engine over TensorRT's table layout in C and a GPU in JavaScript: the contract, and what only this engine does. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeEngineContract, pack, rowOf } from '../../../test/engine-contract.ts'
import { FakeCudaDriver, type FakeCudaOptions } from '../../../test/fakes/cuda-driver.ts'
import { failureOf } from '../../../test/fakes/failure.ts'
import { nothingLive } from '../../../test/fakes/fake-gpu.ts'
import { canCompile } from '../../../test/fakes/native-library.ts'
import {
  type FakePlanOptions,
  type FakeTensorrt,
  profile,
  startFakeTensorrt,
  textVector,
  writeFakePlan,
} from '../../../test/fakes/tensorrt.ts'
import { portModelSpec } from '../../../test/fixtures/port-models.ts'
import { writeSafetensors } from '../../../test/fixtures/safetensors-writer.ts'
import type { StageTimes } from '../../hardware/gpu/stream-pool.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { Engine } from '../engine.ts'
import { normalizeRows } from '../vectors.ts'
import { createTensorrtEngine, type TensorrtEngineOptions } from './tensorrt-engine.ts'

const dimensions = 8
let folder: string
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'tensorrt-engine-'))))
afterAll(() => rmSync(folder, { recursive: true }))

const spec: ModelSpec = {
  ...portModelSpec(),
  hiddenSize: dimensions,
  dimensions,
  maxTokens: 64,
  padTokenId: 3,
}
let planCount = 0
const plan = (options: FakePlanOptions = {}) => writeFakePlan(join(folder, `${planCount++}.plan`), options)

interface Opened {
  readonly engine: Engine
  readonly fake: FakeTensorrt
  readonly driver: FakeCudaDriver
  readonly notes: string[]
}

async function open(
  options: Partial<TensorrtEngineOptions> = {},
  cudaOptions: FakeCudaOptions = {},
): Promise<Opened> {
  const driver = new FakeCudaDriver(cudaOptions)
  const fake = startFakeTensorrt(driver)
  const notes: string[] = []
  const engine = await createTensorrtEngine({
    spec,
    machine: { cuda: driver.api, tensorrt: fake.tensorrt },
    plans: [plan()],
    warmUp: false,
    onNote: (note) => notes.push(note),
    ...options,
  })
  return { engine, fake, driver, notes }
}

/** Disposes, then: nothing is left and nothing was misused. */
async function close({ engine, fake, driver }: Opened): Promise<void> {
  await engine[Symbol.asyncDispose]()
  expect(fake.live()).toBe(0)
  expect(driver.live).toEqual(nothingLive)
  expect([driver.violations, fake.violations]).toEqual([[], []])
}

const ids = (length: number, seed = 0) => Array.from({ length }, (_, i) => (i * 7 + seed * 31 + 1) % 300)

function expectVectors(values: Float32Array, texts: readonly (readonly number[])[]): void {
  const expected = texts.flatMap((text) => Array.from(textVector(text, dimensions)))
  expect(values.length).toBe(expected.length)
  values.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5))
}

const reference = [ids(5, 1), ids(64, 2), ids(1, 3), ids(17, 4)].map((text) => {
  const pooled = textVector(text, dimensions)
  normalizeRows(pooled, 1, dimensions)
  return { ids: text, pooled }
})
const contract = {
  vocabularySize: 300,
  reference,
  tolerance: { absolute: 1e-6, minCosine: 0.999999 },
}

/** The GPU's clock goes on by itself, 5 us a turn of the event loop. */
function runClock(driver: FakeCudaDriver): void {
  const step = () => {
    if (driver.live.contexts === 0) return
    driver.timeline.advance(0.005)
    setImmediate(step)
  }
  setImmediate(step)
}

describe.skipIf(!canCompile)('the TensorRT engine on a fake GPU', () => {
  const describeOn = (name: string, planOptions: FakePlanOptions, options: Partial<TensorrtEngineOptions>) =>
    describeEngineContract(
      `tensorrt, ${name},`,
      async () => {
        const plans = [plan(planOptions)]
        const { engine, driver } = await open({ plans, ...options }, { autoAdvance: false })
        runClock(driver)
        return engine
      },
      contract,
    )
  describeOn('pooled', { output: 'pooled' }, {})
  describeOn('tokens', { output: 'tokens' }, { lanes: 3 })
  describeOn('without graphs', { output: 'pooled' }, { graphs: 0 })

  it('may sleep on a thread until a batch is done', async () => {
    const opened = await open({ wait: 'thread' })
    const texts = [ids(9, 1), ids(40, 2)]
    for (let i = 0; i < 3; i++) expectVectors((await opened.engine.embed(pack(texts), raw)).values, texts)
    expect(opened.driver.calls('cuEventSynchronize')).toBe(3)
    expect(opened.driver.calls('cuEventQuery')).toBe(0)
    await close(opened)
  })

  it('takes the profile with the fewest cells, and pads to what it wants', async () => {
    const profiles = [profile('small', '1/1/2', '1/16/16'), profile('large', '4/8/8', '17/64/64')]
    const opened = await open({ plans: [plan({ profiles })] })
    const { engine, fake } = opened
    expect(engine.info).toMatchObject({ maxBatchSize: 8, maxTokens: 64, dimensions, concurrency: 2 })
    const batches = [[ids(5)], [ids(9), ids(16)], [ids(20)], [ids(17), ids(30), ids(40), ids(50), ids(3)]]
    for (const batch of batches) expectVectors((await engine.embed(pack(batch), raw)).values, batch)
    expect(fake.runs).toEqual([
      '1x8 of profile 0',
      '2x16 of profile 0',
      // No profile takes one text of 20 tokens: three rows are padding.
      '4x24 of profile 1',
      '5x56 of profile 1',
    ])
    await close(opened)
  })

  it('cuts a batch that no profile holds, and refuses a text that none does', async () => {
    const opened = await open({ plans: [plan({ profiles: [profile('only', '1/2/3', '1/32/32')] })] })
    const { engine, fake } = opened
    expect(engine.info).toMatchObject({ maxBatchSize: 3, maxTokens: 32 })
    const texts = Array.from({ length: 7 }, (_, i) => ids(32, i))
    expectVectors((await engine.embed(pack(texts), raw)).values, texts)
    expect(fake.runs.toSorted()).toEqual(['1x32 of profile 0', '3x32 of profile 0', '3x32 of profile 0'])
    const error = await failureOf(engine.embed(pack([ids(33)])))
    expect([error.code, error.message]).toEqual(['ENGINE_FAILED', expect.stringContaining('33 tokens')])
    await close(opened)
  })

  it('runs several plans as one engine', async () => {
    const profiles = [
      profile('low_latency', '1/1/2', '1/64/64'),
      profile('high_throughput', '3/8/8', '1/64/64'),
    ]
    const plans = profiles.map((each, i) => plan({ profiles: [each], contextBytes: 1000 * (i + 1) }))
    const opened = await open({ plans })
    for (const count of [1, 6, 2, 6, 1, 6]) {
      const texts = Array.from({ length: count }, (_, i) => ids(40 + i, i))
      expectVectors((await opened.engine.embed(pack(texts), raw)).values, texts)
    }
    expect(opened.fake.runs).toHaveLength(6)
    await close(opened)
  })

  it('records a shape when it comes again, and replays it from then on', async () => {
    const opened = await open({ lanes: 1 })
    const { engine, driver } = opened
    const run = async (length: number, count: number, seed: number) => {
      const texts = Array.from({ length: count }, (_, i) => ids(length, seed + i))
      expectVectors((await engine.embed(pack(texts), raw)).values, texts)
      return [driver.calls('cuStreamBeginCapture_v2'), driver.calls('cuGraphLaunch')]
    }
    expect(await run(30, 1, 0)).toEqual([0, 0])
    expect(await run(32, 1, 1)).toEqual([1, 0])
    expect(await run(25, 1, 2)).toEqual([1, 1])
    // Another shape between changes nothing for the recording: it has a context of its own.
    expect(await run(64, 3, 3)).toEqual([1, 1])
    expect(await run(29, 1, 4)).toEqual([1, 2])
    expect(await run(64, 3, 5)).toEqual([2, 2])
    expect(await run(32, 1, 6)).toEqual([2, 3])
    expect(await run(62, 3, 7)).toEqual([2, 4])
    expect(driver.live.graphExecs).toBe(2)
    await close(opened)
  })

  it('pads a little further for a graph', async () => {
    const opened = await open({ lanes: 1 })
    const { engine, fake } = opened
    for (const length of [64, 64, 40, 8, 17]) await engine.embed(pack([ids(length)]))
    expect(fake.runs.slice(2)).toEqual(['1x64 of profile 0', '1x8 of profile 0', '1x24 of profile 0'])
    await close(opened)
  })

  it('keeps as many graphs as it may, those used last', async () => {
    const opened = await open({ lanes: 2, graphs: 2 })
    const { engine, driver } = opened
    for (const round of [1, 2, 3]) {
      for (const count of [1, 3, 5, 9]) {
        const texts = Array.from({ length: count }, (_, i) => ids(64, i + round))
        const both = await Promise.all([0, 1].map(() => engine.embed(pack(texts), raw)))
        for (const { values } of both) expectVectors(values, texts)
        expect(driver.live.graphExecs).toBeLessThanOrEqual(4)
      }
    }
    expect(driver.calls('cuGraphExecDestroy')).toBeGreaterThan(0)
    await close(opened)
  })

  it.each(['cuStreamBeginCapture_v2', 'cuGraphInstantiateWithFlags'] as const)(
    'goes on without graphs when %s fails, and says so once',
    async (api) => {
      const opened = await open({ lanes: 1 })
      const { engine, driver, notes } = opened
      driver.fail(api, 2)
      for (const seed of [1, 2, 3, 4]) {
        expectVectors((await engine.embed(pack([ids(20, seed)]), raw)).values, [ids(20, seed)])
      }
      expect(notes).toEqual([expect.stringContaining('no CUDA graphs, since a run cannot be recorded')])
      expect(driver.calls('cuStreamBeginCapture_v2')).toBe(1)
      await close(opened)
    },
  )

  it('runs the common shapes at the start, so that the first batch finds its graph', async () => {
    const opened = await open({ warmUp: true })
    const { engine, driver } = opened
    const before = driver.calls('cuStreamBeginCapture_v2')
    // 1, 4 and 16 texts of 16, 32 and 64 tokens, on two lanes.
    expect([before, driver.live.graphExecs]).toEqual([18, 18])
    for (const count of [1, 4, 16]) await engine.embed(pack(Array.from({ length: count }, () => ids(30))))
    expect([driver.calls('cuGraphLaunch'), driver.calls('cuStreamBeginCapture_v2')]).toEqual([3, before])
    // Nor does a shape without a graph wait for a context.
    const objects = opened.fake.live()
    for (const count of [2, 7, 32]) {
      const texts = Array.from({ length: count }, (_, i) => ids(50, i))
      expectVectors((await engine.embed(pack(texts), raw)).values, texts)
    }
    expect(opened.fake.live()).toBe(objects)
    await close(opened)
  })

  it('copies one batch while another computes', async () => {
    const times: StageTimes[] = []
    const opened = await open(
      { plans: [plan({ output: 'tokens', dimensions })], onStageTimes: (each) => times.push(each) },
      { bytesPerMs: 1 << 16 },
    )
    const texts = Array.from({ length: 32 }, (_, i) => ids(64, i))
    await Promise.all([0, 1, 2, 3].map(() => opened.engine.embed(pack(texts))))
    const sorted = times.toSorted((a, b) => a.compute!.fromMs - b.compute!.fromMs)
    expect(sorted).toHaveLength(4)
    const [first, second] = sorted as [StageTimes, StageTimes]
    expect(second.h2d!.fromMs).toBeLessThan(first.compute!.toMs)
    expect(second.compute!.fromMs).toBeGreaterThanOrEqual(first.compute!.toMs)
    expect(first.d2h!.fromMs).toBeLessThan(second.compute!.toMs)
    await close(opened)
  })

  it('makes no copy where CPU and GPU share their memory', async () => {
    const opened = await open({}, { isIntegrated: true })
    const texts = [ids(9, 1), ids(30, 2)]
    for (let i = 0; i < 3; i++) expectVectors((await opened.engine.embed(pack(texts), raw)).values, texts)
    const { driver } = opened
    expect([driver.calls('cuMemcpyHtoDAsync_v2'), driver.calls('cuMemcpyDtoHAsync_v2')]).toEqual([0, 0])
    await close(opened)
  })

  it('gathers rows of the vocabulary table for a plan that takes them', async () => {
    const weights = join(folder, 'table.safetensors')
    const table = Float32Array.from({ length: 300 * dimensions }, (_, i) =>
      Math.fround(((i * 37) % 101) / 64),
    )
    const bf16 = new Uint16Array(table.length)
    new Uint32Array(table.buffer).forEach((bits, i) => (bf16[i] = bits >>> 16))
    await writeSafetensors(weights, [
      {
        name: 'model.embed_tokens.weight',
        dtype: 'BF16',
        shape: [300, dimensions],
        bytes: new Uint8Array(bf16.buffer),
      },
    ])
    const files = { ...spec.files, weights: [weights] }
    const opened = await open({ spec: { ...spec, files }, plans: [plan({ inputs: 'embeddings' })] })
    const texts = [ids(3, 1), ids(40, 2), ids(8, 3)]
    for (let round = 0; round < 3; round++) {
      const result = await opened.engine.embed(pack(texts), raw)
      texts.forEach((text, i) => {
        for (let k = 0; k < dimensions; k++) {
          const mean = text.reduce((sum, id) => sum + widenRow(bf16, id * dimensions + k), 0) / text.length
          expect(rowOf(result, i)[k]).toBeCloseTo(mean, 4)
        }
      })
    }
    expect(opened.engine.info.memoryBytes).toBeGreaterThan(table.length * 2)
    await close(opened)
    const other = await failureOf(
      open({
        spec: { ...spec, files, hiddenSize: 16 },
        plans: [plan({ inputs: 'embeddings', dimensions: 16 })],
      }),
    )
    expect([other.code, other.message]).toEqual([
      'ENGINE_UNAVAILABLE',
      expect.stringContaining('rows of 32 bytes'),
    ])
  })

  it('names the texts whose vectors are not finite', async () => {
    const opened = await open()
    opened.fake.poisonId = 299
    const result = await opened.engine.embed(pack([ids(3), [299, 4], ids(5)]), raw)
    expect(result.nonFiniteSequences).toEqual([1])
    expectVectors(rowOf(result, 2), [ids(5)])
    await close(opened)
  })

  it.each([
    ['cuMemcpyHtoDAsync_v2', 2, 'ENGINE_OUT_OF_MEMORY', 'CUDA_ERROR_OUT_OF_MEMORY'],
    ['cuMemcpyDtoHAsync_v2', 1, 'ENGINE_FAILED', 'CUDA_ERROR_INVALID_VALUE'],
  ] as const)('reports a failing %s with status %i as %s, and goes on', async (api, status, code, words) => {
    const opened = await open()
    opened.driver.fail(api, status)
    const error = await failureOf(opened.engine.embed(pack([ids(9)])))
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(words)])
    expectVectors((await opened.engine.embed(pack([ids(9)]), raw)).values, [ids(9)])
    await close(opened)
  })

  it('hands on why TensorRT does not run a batch, and goes on', async () => {
    const opened = await open()
    opened.fake.setFailing(true)
    const error = await failureOf(opened.engine.embed(pack([ids(9)])))
    expect([error.code, error.message]).toEqual([
      'ENGINE_FAILED',
      expect.stringContaining('Myelin ([the test said so])'),
    ])
    opened.fake.setFailing(false)
    expectVectors((await opened.engine.embed(pack([ids(9)]), raw)).values, [ids(9)])
    await close(opened)
  })

  it('fails every batch once the GPU is lost, and does not hang when it is disposed', async () => {
    const { engine, driver } = await open()
    const running = failureOf(engine.embed(pack([ids(9)])))
    driver.breakGpu()
    for (const failure of [running, failureOf(engine.embed(pack([ids(9)])))]) {
      expect(await failure).toMatchObject({ code: 'ENGINE_FAILED', cause: { code: 'CUDA_STATUS' } })
    }
    expect((await failureOf(Promise.resolve(engine[Symbol.asyncDispose]()))).code).toBe('CUDA_STATUS')
  })

  it('tells its memory, its launches and its graphs', async () => {
    const opened = await open({ lanes: 1, plans: [plan({ contextBytes: 1 << 20 })] })
    const { engine, driver } = opened
    const staging = driver.live.deviceBuffers - 1
    expect(staging).toBe(3)
    // The plan's file, memory of the contexts, and ids, mask and vectors of 32 x 64 here and there.
    const buffers = 2 * (2 * 32 * 64 * 8 + 32 * dimensions * 4)
    expect(engine.info.memoryBytes - buffers - (1 << 20)).toBeLessThan(200)
    for (let i = 0; i < 5; i++) await engine.embed(pack([ids(9)]))
    const read = (name: string) =>
      engine
        .metrics!.find((each) => each.name === name)!
        .read()
        .map(({ value }) => value)
    expect([read('embed_gpu_launches_total'), read('embed_gpu_graphs')]).toEqual([[3, 2], [1]])
    expect(read('embed_gpu_memory_bytes')[0]).toBeGreaterThan(1 << 20)
    await close(opened)
    expect(read('embed_gpu_memory_bytes')).toEqual([])
  })

  describe('refuses to start', () => {
    const wrongFile = () => {
      const { path } = plan()
      return { ...plan(), path: `${path}.absent` }
    }
    it.each<[string, () => Partial<TensorrtEngineOptions>, string, string]>([
      ['without a plan', () => ({ plans: [] }), 'ENGINE_UNAVAILABLE', 'there is no plan'],
      ['with a plan that is gone', () => ({ plans: [wrongFile()] }), 'FILE_UNREADABLE', 'ENOENT'],
      [
        'with a plan of other shapes',
        () => ({ plans: [{ ...plan(), profiles: [profile('other', '1/1/1', '1/8/8')] }] }),
        'ENGINE_UNAVAILABLE',
        'its profiles are not those',
      ],
      [
        'with a plan of another model',
        () => ({ plans: [plan({ dimensions: 16 })] }),
        'ENGINE_UNAVAILABLE',
        'it gives 16 values a row, the model has 8',
      ],
      [
        'with plans that do not belong together',
        () => ({ plans: [plan(), plan({ output: 'tokens' })] }),
        'ENGINE_UNAVAILABLE',
        'differ in inputs or outputs',
      ],
    ])('%s', async (_, options, code, words) => {
      const driver = new FakeCudaDriver()
      const fake = startFakeTensorrt(driver)
      const error = await failureOf(
        createTensorrtEngine({
          spec,
          machine: { cuda: driver.api, tensorrt: fake.tensorrt },
          plans: [],
          ...options(),
        }),
      )
      expect([error.code, error.message]).toEqual([code, expect.stringContaining(words)])
      expect([fake.live(), driver.live]).toEqual([0, nothingLive])
    })

    it.each([1, 2, 3, 4])(
      'when memory number %i is not to be had, and leaves nothing behind',
      async (call) => {
        const driver = new FakeCudaDriver()
        const fake = startFakeTensorrt(driver)
        driver.fail('cuMemAlloc_v2', 2, call)
        const error = await failureOf(
          createTensorrtEngine({
            spec,
            machine: { cuda: driver.api, tensorrt: fake.tensorrt },
            plans: [plan()],
          }),
        )
        expect(error.code).toBe('GPU_OUT_OF_MEMORY')
        expect([fake.live(), driver.live, driver.violations]).toEqual([0, nothingLive, []])
      },
    )
  })
})

const raw = { normalize: false }

/** The f32 of a bf16. */
function widenRow(bits: Uint16Array, at: number): number {
  return new Float32Array(Uint32Array.of(bits[at]! << 16).buffer)[0]!
}
