/** The native engine on a GPU: the contract that every engine keeps, and what the emulator cannot say: graphs. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { describeEngineContract, pack, rowOf } from '../../../test/engine-contract.ts'
import { writeNativeBert, writeNativeQwen3 } from '../../../test/fixtures/native-models.ts'
import { realCuda } from '../../../test/fixtures/real-gpu.ts'
import { realNvrtc } from '../../../test/fixtures/real-nvrtc.ts'
import { loadCublaslt } from '../../hardware/ffi/cublaslt.ts'
import { KernelCompiler } from '../../hardware/gpu/compiler.ts'
import { findCudaLibrary } from '../../hardware/machine/cuda-libraries.ts'
import { cosine } from '../vectors.ts'
import { type CudaEngineOptions, openCudaEngine } from './cuda-engine.ts'

const cublaslt = findCudaLibrary('libcublasLt', { libraryPath: process.env['LD_LIBRARY_PATH'] }).found?.path
const isReady = realCuda !== undefined && realNvrtc !== undefined && cublaslt !== undefined
const folder = await mkdtemp(join(tmpdir(), 'cuda-engine-gpu-'))
afterAll(() => rm(folder, { recursive: true }))

const specs = { BERT: await writeNativeBert(folder), Qwen3: await writeNativeQwen3(folder) }
const open = async (
  model: keyof typeof specs,
  precision: 'bf16' | 'fp8-rowwise',
  options: Partial<CudaEngineOptions> = {},
) =>
  openCudaEngine(
    { spec: specs[model], precision, ...options },
    {
      cuda: realCuda!,
      cublaslt: loadCublaslt(cublaslt!),
      compilerFor: () => new KernelCompiler(realNvrtc!),
    },
  )

describe.skipIf(!isReady)('the native engine on a GPU', () => {
  for (const model of ['BERT', 'Qwen3'] as const) {
    describeEngineContract(`cuda with ${model}`, () => open(model, 'bf16'), {
      vocabularySize: 300,
      // Another count of rows is another algorithm of cuBLASLt, which sums in another order.
      tolerance: { absolute: 1e-2, minCosine: 0.999 },
    })
  }

  it('gives from a graph what it gives without', async () => {
    await using engine = await open('Qwen3', 'fp8-rowwise')
    const batch = pack([[5, 6, 7, 8], Array.from({ length: 40 }, (_, i) => i + 9)])
    const other = pack([[9, 8, 7, 6], Array.from({ length: 40 }, (_, i) => 300 - i)])
    const first = await engine.embed(batch)
    await engine.embed(batch)
    // Of the same shape with other tokens: what the graph was recorded with must not stay.
    const otherByGraph = await engine.embed(other)
    const again = await engine.embed(batch)
    for (const row of [0, 1]) {
      expect(cosine(rowOf(again, row), rowOf(first, row))).toBeGreaterThan(0.99999)
      expect(cosine(rowOf(otherByGraph, row), rowOf(first, row))).toBeLessThan(0.999)
    }
  })

  it('gives with a shared prefix what it gives without, by a graph too', async () => {
    const queries = Array.from({ length: 60 }, (_, i) => [
      ...Array.from({ length: 20 }, (_each, at) => at + 5),
      ...Array.from({ length: 1 + (i % 7) }, (_each, at) => (i * 13 + at) % 300),
    ])
    await using apart = await open('Qwen3', 'bf16', { sharePrefix: false })
    await using shared = await open('Qwen3', 'bf16', { sharePrefix: true })
    const expected = await apart.embed(pack(queries))
    for (const way of ['plain', 'recorded', 'graph']) {
      const actual = await shared.embed(pack(queries))
      const cosines = queries.map((_, row) => cosine(rowOf(actual, row), rowOf(expected, row)))
      expect(Math.min(...cosines), way).toBeGreaterThan(0.999)
    }
  })

  it('reads from the disk the weights that it quantised', async () => {
    const options = { weightCacheFolder: join(folder, 'weights') }
    const batch = pack([[5, 6, 7, 8], Array.from({ length: 40 }, (_, i) => i + 9)])
    const vectors = []
    for (let i = 0; i < 2; i++) {
      await using engine = await open('Qwen3', 'fp8-rowwise', options)
      await engine.weightsKept
      vectors.push((await engine.embed(batch)).values)
    }
    expect(await readdir(options.weightCacheFolder)).toHaveLength(1)
    expect(vectors[1]).toEqual(vectors[0])
  })
})
