import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FakeCublaslt } from '../../../test/fakes/cublaslt.ts'
import { failureOf } from '../../../test/fakes/failure.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { DiskCache } from './disk-cache.ts'
import { Matmul, MatmulLibrary, type MatmulShape } from './matmul.ts'
import { searchAlgorithm } from './matmul-search.ts'
import { GpuStream } from './stream.ts'

const shape: MatmulShape = { precision: 'bf16', rows: 16, columns: 48, inner: 64 }

async function open() {
  const fake = await openFakeGpu({ l2CacheBytes: 4096 })
  const cublaslt = new FakeCublaslt(fake.driver)
  const library = new MatmulLibrary(fake.gpu, cublaslt.api, { workspaceBytes: 4096 })
  const buffer = (name: string) => new DeviceBuffer(fake.gpu, name, 64).handle
  const operands = { a: buffer('a'), b: buffer('b'), d: buffer('d') }
  return { fake, cublaslt, library, operands, stream: new GpuStream(fake.gpu, 's') }
}

describe('the search for an algorithm', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'akidb-matmul-'))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  it('takes the fastest, not the first, and leaves out what does not run', async () => {
    const { fake, cublaslt, library, operands, stream } = await open()
    cublaslt.algorithms = [
      { durationMs: 0.1, status: 15 },
      { durationMs: 3 },
      { durationMs: 0.5, state: 8 },
      { durationMs: 1.5, workspaceBytes: 1024 },
      { durationMs: 2 },
    ]
    const found = await searchAlgorithm(new Matmul(library, shape), { stream, operands })
    expect(found).toMatchObject({ workspaceBytes: 1024, candidates: 3 })
    expect(found.bytes[0]).toBe(4)
    expect(found.medianUs).toBeCloseTo(1500, 3)
    expect(found.firstChoiceUs).toBeCloseTo(3000, 3)
    // Warm-up and five rounds, one candidate after the other; twice as slow as the best, the first is timed once.
    expect(cublaslt.products.map(({ algorithm }) => algorithm)).toEqual(
      [[1, 3, 4, 1, 3, 4], Array.from({ length: 4 }, () => [3, 4])].flat(2),
    )
    expectClean(fake)
  })

  it('flushes the L2 cache before every timing', async () => {
    const { fake, library, operands, stream } = await open()
    const matmul = new Matmul(library, shape)
    const before = fake.driver.calls('cuMemsetD8Async')
    await searchAlgorithm(matmul, { stream, operands, rounds: 3 })
    expect(fake.driver.calls('cuMemsetD8Async') - before).toBe(4)
  })

  it('keeps the winner on disk: for the shape, the library and the GPU', async () => {
    const { cublaslt, library, operands, stream } = await open()
    cublaslt.algorithms = [{ durationMs: 2 }, { durationMs: 1 }]
    const cache = new DiskCache(folder)
    const search = (changed: Partial<MatmulShape> = {}) =>
      searchAlgorithm(new Matmul(library, { ...shape, ...changed }), { stream, operands, cache })
    const found = await search()
    expect(await search()).toEqual(found)
    expect(cublaslt.heuristicCalls).toBe(1)
    await search({ rows: 32 })
    await search({ accumulate: true })
    expect(cublaslt.heuristicCalls).toBe(3)
    cublaslt.version++
    await search()
    expect(cublaslt.heuristicCalls).toBe(4)
    expect(await readdir(folder)).toHaveLength(4)
  })

  it('searches anew when the file is damaged or the library refuses what it says', async () => {
    const { cublaslt, library, operands, stream } = await open()
    const cache = new DiskCache(folder)
    const search = () => searchAlgorithm(new Matmul(library, shape), { stream, operands, cache })
    await search()
    const path = join(folder, (await readdir(folder))[0]!)
    await writeFile(path, 'damaged, but longer than the digest that stands before the content')
    await search()
    expect(cublaslt.heuristicCalls).toBe(2)
    cublaslt.algorithms = [{ durationMs: 1, workspaceBytes: 1 << 20 }]
    expect((await failureOf(search())).code).toBe('MATMUL_UNSUPPORTED')
    expect(cublaslt.heuristicCalls).toBe(3)
  })

  it('tells when nothing runs', async () => {
    const { fake, cublaslt, library, operands, stream } = await open()
    cublaslt.algorithms = [{ durationMs: 1, status: 13 }]
    const error = await failureOf(searchAlgorithm(new Matmul(library, shape), { stream, operands }))
    expect(error).toMatchObject({ code: 'MATMUL_UNSUPPORTED', cause: { details: { status: 13 } } })
    expectClean(fake)
  })
})
