/** The forward passes on the emulated GPU, against ONNX Runtime on the same weights. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pack, rowOf } from '../../../test/engine-contract.ts'
import { canEmulate, openEmulatedLibraries } from '../../../test/fakes/emulated-gpu.ts'
import { failureOf } from '../../../test/fakes/failure.ts'
import { writeNativeBert, writeNativeQwen3 } from '../../../test/fixtures/native-models.ts'
import { type TinyModelOptions, writeTinyBert } from '../../../test/fixtures/tiny-model.ts'
import type { MatmulPrecision } from '../../hardware/gpu/matmul.ts'
import { exportOnnx } from '../../model/onnx-export.ts'
import { loadModelSpec, type ModelSpec } from '../../model/spec.ts'
import { createEngine } from '../create.ts'
import type { Embeddings, PackedBatch } from '../engine.ts'
import { cosine } from '../vectors.ts'
import { type CudaEngineOptions, openCudaEngine } from './cuda-engine.ts'

const folder = await mkdtemp(join(tmpdir(), 'cuda-engine-'))
afterAll(() => rm(folder, { recursive: true }))

const makeBert = async (options: TinyModelOptions = {}) => writeNativeBert(folder, options)
const makeQwen3 = async () => writeNativeQwen3(folder)

const sequences = [1, 17, 64, 3, 40].map((length, i) =>
  Array.from({ length }, (_, at) => (at * 7919 + i * 104_729 + 13) % 300),
)
const batch = pack(sequences)

async function referenceOf(spec: ModelSpec): Promise<Embeddings> {
  const onnxPath = join(spec.folder, 'model.onnx')
  await exportOnnx(spec, onnxPath)
  await using engine = await createEngine('onnx', {
    spec,
    onnxPath,
    precision: 'fp32',
    threads: 1,
    maxBatchSize: 128,
    maxBatchTokens: 8192,
  })
  return engine.embed(batch)
}

async function embed(options: CudaEngineOptions, given: PackedBatch = batch): Promise<Embeddings> {
  await using engine = await openCudaEngine(options, await openEmulatedLibraries())
  return engine.embed(given)
}

const worstCosine = (actual: Embeddings, expected: Embeddings) =>
  Math.min(...sequences.map((_, i) => cosine(rowOf(actual, i), rowOf(expected, i))))

const minCosine: Readonly<Record<MatmulPrecision, number>> = { bf16: 0.9995, fp8: 0.98, 'fp8-rowwise': 0.98 }
/** As if calibrated: the tiny models' inputs are below 8. */
const scales = { kind: 'fixed', scale: 8 / 448 } as const

describe.skipIf(!canEmulate)('the native engine, emulated', { timeout: 120_000 }, () => {
  for (const [name, make] of [
    ['BERT', makeBert],
    ['Qwen3', makeQwen3],
  ] as const) {
    describe(name, () => {
      let spec: ModelSpec
      let reference: Embeddings
      beforeAll(async () => {
        spec = await make()
        reference = await referenceOf(spec)
      })

      for (const precision of ['bf16', 'fp8', 'fp8-rowwise'] as const) {
        it(`agrees with ONNX Runtime at ${precision}`, { timeout: 120_000 }, async () => {
          const result = await embed({ spec, precision, scales })
          expect(result.nonFiniteSequences).toEqual([])
          expect(worstCosine(result, reference)).toBeGreaterThan(minCosine[precision])
        })
      }

      it('gives the same vectors in passes of any size, in the order of the batch', async () => {
        const whole = await embed({ spec, precision: 'bf16' })
        // 1 + 17 + ... + 40 tokens, the longest sequence taken alone.
        const options = { spec: { ...spec, maxTokens: 64 }, precision: 'bf16', maxPassTokens: 64 } as const
        const parts = await embed(options)
        expect(worstCosine(parts, whole)).toBeGreaterThan(0.99999)
      })
    })
  }

  it('gives few tokens to products of its own, with the same vectors', async () => {
    const spec = await writeNativeQwen3(folder, { hidden: 64, intermediate: 128 })
    const few = pack([sequences[3]!, sequences[4]!.slice(0, 9)])
    for (const precision of ['fp8', 'fp8-rowwise'] as const) {
      const vectors: Embeddings[] = []
      for (const fewRowsProducts of [true, false]) {
        const libraries = await openEmulatedLibraries()
        let products = 0
        const { cublasLtMatmul: multiply } = libraries.cublaslt
        const cublaslt = {
          ...libraries.cublaslt,
          cublasLtMatmul: (...args: Parameters<typeof multiply>) => {
            products++
            multiply(...args)
          },
        }
        const options = { spec, precision, scales, fewRowsProducts }
        await using engine = await openCudaEngine(options, { ...libraries, cublaslt })
        vectors.push(await engine.embed(few))
        expect(products > 0).toBe(!fewRowsProducts)
      }
      for (const row of [0, 1]) {
        expect(cosine(rowOf(vectors[0]!, row), rowOf(vectors[1]!, row))).toBeGreaterThan(0.995)
      }
    }
  })

  it('pools as the model says, normalised or not', async () => {
    const spec = await makeBert({ pooling: 'cls' })
    const reference = await referenceOf(spec)
    await using engine = await openCudaEngine({ spec, precision: 'bf16' }, await openEmulatedLibraries())
    expect(worstCosine(await engine.embed(batch), reference)).toBeGreaterThan(minCosine.bf16)
    const raw = await engine.embed(batch, { normalize: false })
    expect(raw.normalized).toBe(false)
    expect(Math.hypot(...rowOf(raw, 0))).toBeGreaterThan(1.5)
    expect(worstCosine(raw, reference)).toBeGreaterThan(minCosine.bf16)
  })

  it('says what it is, refuses what it cannot do, and ends once', async () => {
    const spec = await makeBert()
    const engine = await openCudaEngine({ spec, precision: 'fp8-rowwise' }, await openEmulatedLibraries())
    expect(engine.info).toMatchObject({
      name: 'cuda',
      precision: 'fp8-rowwise',
      dimensions: 32,
      runtimeVersion: '13.4.1',
    })
    expect(engine.info.memoryBytes).toBeGreaterThan(10_000)
    expect((await failureOf(engine.embed(batch, { output: 'tokens' }))).code).toBe('OUTPUT_NOT_SUPPORTED')
    expect((await failureOf(engine.embed(pack([Array.from({ length: 65 }, () => 1)])))).message).toContain(
      '65 tokens',
    )
    const signal = AbortSignal.abort()
    expect((await failureOf(engine.embed(batch, { signal }))).code).toBe('REQUEST_CANCELLED')
    const running = engine.embed(pack([[1, 2]]))
    await Promise.all([engine[Symbol.asyncDispose](), engine[Symbol.asyncDispose]()])
    expect((await running).rows).toBe(1)
    expect((await failureOf(engine.embed(batch))).message).toContain('it was disposed')
  })

  it('computes the end of the last layer for pooled tokens only', async () => {
    const longer = pack([sequences[2]!, sequences[4]!])
    for (const [make, isPooledEarly] of [
      [makeQwen3, true],
      [async () => makeBert({ pooling: 'cls' }), true],
      [makeBert, false],
    ] as const) {
      const libraries = await openEmulatedLibraries()
      const rows = new Set<number>()
      const { cublasLtMatrixLayoutCreate: create } = libraries.cublaslt
      const cublaslt = {
        ...libraries.cublaslt,
        cublasLtMatrixLayoutCreate: (...args: Parameters<typeof create>) => {
          rows.add(args[3])
          create(...args)
        },
      }
      const options = { spec: await make(), precision: 'fp8-rowwise' } as const
      await using engine = await openCudaEngine(options, { ...libraries, cublaslt })
      const together = await engine.embed(longer)
      // 104 tokens, as products count them; two rows are left, which count as 16.
      expect([rows.has(112), rows.has(16)]).toEqual([true, isPooledEarly])
      // As short as the rows that are left: all of it is computed.
      const short = pack([[5, 6, 7]])
      const alone = await engine.embed(short)
      const beside = await engine.embed(pack([sequences[2]!, [5, 6, 7]]))
      expect(cosine(rowOf(beside, 1), rowOf(alone, 0))).toBeGreaterThan(0.9999)
      expect(cosine(rowOf(beside, 0), rowOf(together, 0))).toBeGreaterThan(0.9999)
    }
  })

  it('gives the same vectors when the products take the rows of a pass in chunks', async () => {
    const spec = await makeQwen3()
    // 189 tokens, which count as 256; the end of the last layer is done for 6 of them.
    const longer = pack([...sequences, sequences[2]!])
    for (const precision of ['bf16', 'fp8', 'fp8-rowwise'] as const) {
      const [whole, chunked] = [
        await embed({ spec, precision, scales }, longer),
        await embed({ spec, precision, scales, chunkRows: 128 }, longer),
      ]
      expect(chunked.values).toEqual(whole.values)
    }
  })

  it('sleeps on a thread instead of polling where asked', async () => {
    const spec = await makeBert()
    const libraries = await openEmulatedLibraries()
    let sleeps = 0
    const { cuEventSynchronize } = libraries.cuda
    const async = async (...args: Parameters<typeof cuEventSynchronize.async>) => {
      sleeps++
      return cuEventSynchronize.async(...args)
    }
    const cuda = { ...libraries.cuda, cuEventSynchronize: Object.assign(() => undefined, { async }) }
    await using engine = await openCudaEngine(
      { spec, precision: 'bf16', wait: 'thread' },
      { ...libraries, cuda },
    )
    const slept = await engine.embed(batch)
    expect(sleeps).toBe(1)
    expect(slept.values).toEqual((await embed({ spec, precision: 'bf16' })).values)
  })

  it('records a graph when a shape comes again', async () => {
    const spec = await makeQwen3()
    const libraries = await openEmulatedLibraries()
    const captures = { count: 0 }
    const cuda = {
      ...libraries.cuda,
      cuStreamBeginCapture_v2: (...args: Parameters<typeof libraries.cuda.cuStreamBeginCapture_v2>) => {
        captures.count++
        libraries.cuda.cuStreamBeginCapture_v2(...args)
      },
    }
    await using engine = await openCudaEngine({ spec, precision: 'bf16' }, { ...libraries, cuda })
    const first = await engine.embed(batch)
    expect(captures.count).toBe(0)
    // The emulated driver runs what is recorded, and nothing when it is launched.
    const second = await engine.embed(batch)
    expect(captures.count).toBe(1)
    expect(second.values).toEqual(first.values)
    await engine.embed(batch)
    await engine.embed(pack([[1, 2, 3]]))
    expect(captures.count).toBe(1)
  })

  it('is warm when it is ready: algorithms searched, graphs recorded', async () => {
    const spec = await makeBert()
    const warmUpShapes = [
      { sequences: 1, tokens: 16 },
      { sequences: 3, tokens: 20 },
    ]
    const libraries = await openEmulatedLibraries()
    let heuristics = 0
    const cublaslt = {
      ...libraries.cublaslt,
      cublasLtMatmulAlgoGetHeuristic: (
        ...args: Parameters<typeof libraries.cublaslt.cublasLtMatmulAlgoGetHeuristic>
      ) => {
        heuristics++
        libraries.cublaslt.cublasLtMatmulAlgoGetHeuristic(...args)
      },
    }
    const options = { spec, precision: 'fp8-rowwise', warmUpShapes } as const
    await using engine = await openCudaEngine(options, { ...libraries, cublaslt })
    // Four products a shape, each asked for a plan and once more for the search; of 32 and 48 rows for the first choice.
    const asked = 2 * 4 * 2 + 2 * 4
    expect(heuristics).toBe(asked)
    const result = await engine.embed(pack([Array.from({ length: 16 }, (_, i) => i + 5)]), {
      normalize: false,
    })
    expect(result.nonFiniteSequences).toEqual([])
    expect(heuristics).toBe(asked)
  })

  it('tries what can be chosen from in the whole pass, where passes have graphs', async () => {
    const spec = await makeBert()
    const libraries = await openEmulatedLibraries()
    const { cublasLtMatmulAlgoGetHeuristic: name } = libraries.cublaslt
    const cublaslt = {
      ...libraries.cublaslt,
      // A second algorithm, which computes the same.
      cublasLtMatmulAlgoGetHeuristic: (...args: Parameters<typeof name>) => {
        name(...args)
        const [requested, results, returned] = [args[7], args[8], args[9]]
        if (requested === 1) return
        const resultBytes = results.length / requested
        results.copyWithin(resultBytes, 0, resultBytes)
        results[resultBytes] = 1
        returned[0] = 2
      },
    }
    for (const [graphs, count] of [
      // The pass as it begins, with another algorithm for each of its four products, and the one that is kept.
      [64, 1 + 4 + 1],
      [0, 0],
    ] as const) {
      let recorded = 0
      const { cuGraphInstantiateWithFlags: instantiate } = libraries.cuda
      const cuda = {
        ...libraries.cuda,
        cuGraphInstantiateWithFlags: (...args: Parameters<typeof instantiate>) => {
          recorded++
          instantiate(...args)
        },
      }
      const warmUpShapes = [{ sequences: 1, tokens: 16 }]
      const options = { spec, precision: 'fp8-rowwise', warmUpShapes, graphs } as const
      await using engine = await openCudaEngine(options, { ...libraries, cuda, cublaslt })
      expect(recorded).toBe(count)
      expect((await engine.embed(pack([[1, 2, 3]]))).nonFiniteSequences).toEqual([])
    }
  })

  it('tells before it loads what it does not compute', async () => {
    const libraries = await openEmulatedLibraries()
    const mpnet = join(folder, 'mpnet')
    await writeTinyBert(mpnet, { family: 'mpnet', config: { num_attention_heads: 1 } })
    const spec = await loadModelSpec(mpnet)
    const open = async (options: CudaEngineOptions) => failureOf(openCudaEngine(options, libraries))
    expect((await open({ spec, precision: 'bf16' })).message).toContain("MPNet's")
    const unknown = { ...spec, family: undefined, architecture: 'mamba' }
    expect((await open({ spec: unknown, precision: 'bf16' })).message).toContain("the architecture 'mamba'")
    expect((await open({ spec: await makeBert(), precision: 'fp8' })).code).toBe('SCALES_INVALID')
  })
})
