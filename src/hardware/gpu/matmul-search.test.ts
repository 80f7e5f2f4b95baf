import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type FakeAlgorithm, FakeCublaslt } from '../../../test/fakes/cublaslt.ts'
import { failureOf } from '../../../test/fakes/failure.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { DiskCache } from './disk-cache.ts'
import { Matmul, MatmulLibrary, type MatmulShape } from './matmul.ts'
import { searchAlgorithm, searchAlgorithms, timeCandidates } from './matmul-search.ts'
import { readConfig } from './matmul-variants.ts'
import { GpuStream } from './stream.ts'

const shape: MatmulShape = { precision: 'bf16', rows: 16, columns: 48, inner: 64 }

async function open() {
  const fake = await openFakeGpu({ l2CacheBytes: 4096 })
  const cublaslt = new FakeCublaslt(fake.driver)
  const library = new MatmulLibrary(fake.gpu, cublaslt.api, { workspaceBytes: 4096 })
  const buffer = (name: string) => new DeviceBuffer(fake.gpu, name, 4096).handle
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
    const timed = [[1, 3, 4, 1, 3, 4], Array.from({ length: 4 }, () => [3, 4])].flat(2)
    // At the end the fastest's nodes are counted, and its product is compared with the first choice's.
    expect(cublaslt.products.map(({ algorithm }) => algorithm)).toEqual([...timed, 1, 3, 3])
    expectClean(fake)
  })

  it('flushes the L2 cache before every timing', async () => {
    const { fake, library, operands, stream } = await open()
    const matmul = new Matmul(library, shape)
    const before = fake.driver.calls('cuMemsetD8Async')
    await searchAlgorithm(matmul, { stream, operands, rounds: 3 })
    // One more sets D before the comparison.
    expect(fake.driver.calls('cuMemsetD8Async') - before).toBe(4 + 1)
  })

  it('flushes less of it where memory is short', async () => {
    const fake = await openFakeGpu({ l2CacheBytes: 1 << 20, totalBytes: 1.5 * 2 ** 20 })
    const library = new MatmulLibrary(fake.gpu, new FakeCublaslt(fake.driver).api, { workspaceBytes: 4096 })
    const buffer = (name: string) => new DeviceBuffer(fake.gpu, name, 4096).handle
    const operands = { a: buffer('a'), b: buffer('b'), d: buffer('d') }
    const stream = new GpuStream(fake.gpu, 's')
    const { candidates } = await searchAlgorithm(new Matmul(library, shape), { stream, operands })
    expect(candidates).toBe(1)
    using others = new DeviceBuffer(fake.gpu, 'others', 1.4 * 2 ** 20)
    expect(others.isFreed).toBe(false)
    const search = searchAlgorithm(new Matmul(library, { ...shape, rows: 8 }), { stream, operands })
    expect((await failureOf(search)).code).toBe('GPU_OUT_OF_MEMORY')
    expectClean(fake)
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

  it('gives back the fastest two, and the fastest of each other number of nodes that is not much slower', async () => {
    const { cublaslt, library, operands, stream } = await open()
    cublaslt.algorithms = [
      { durationMs: 20e-3 },
      { durationMs: 10e-3, memsets: 1 },
      { durationMs: 11e-3, memsets: 1 },
      { durationMs: 12e-3, memsets: 1 },
      { durationMs: 13e-3, memsets: 2, product: 0x4000 },
      { durationMs: 15.9e-3 },
      { durationMs: 16.1e-3, memsets: 2 },
    ]
    const cache = new DiskCache(folder)
    const search = async () =>
      searchAlgorithms(new Matmul(library, shape), { stream, operands, cache, wideMs: 0 })
    const found = await search()
    expect(found.map(({ bytes, nodes }) => [bytes[0]! - 1, nodes])).toEqual([
      [1, 2],
      [2, 2],
      [5, 1],
    ])
    expect(await search()).toEqual(found)
    expect(cublaslt.heuristicCalls).toBe(1)
  })

  it("takes no product that is another than the first choice's", async () => {
    const { cublaslt, library, operands, stream } = await open()
    const [one, nearlyOne, two, nan] = [0x3f80, 0x3f81, 0x4000, 0x7fc0]
    cublaslt.algorithms = [
      { durationMs: 5, product: one },
      { durationMs: 1, product: two },
      { durationMs: 2, product: nan },
      { durationMs: 3, product: nearlyOne },
    ]
    for (const accumulate of [false, true]) {
      const matmul = new Matmul(library, { ...shape, accumulate })
      expect((await searchAlgorithm(matmul, { stream, operands })).bytes[0]).toBe(4)
    }
    // Where the first choice's own is NaN, since the operands are, nothing can be said.
    cublaslt.algorithms = [
      { durationMs: 5, product: nan },
      { durationMs: 1, product: two },
    ]
    expect((await searchAlgorithm(new Matmul(library, shape), { stream, operands })).bytes[0]).toBe(2)
  })

  describe('beyond what cuBLASLt names', () => {
    /** Of a GPU that few tiles leave half empty. */
    const splitting: FakeAlgorithm = {
      durationMs: 8,
      configured: ({ tile, splitK, reduction, cluster }) => {
        if (tile > 5 || cluster > 2 || (splitK > 1 && reduction !== 2)) return undefined
        const workspaceBytes = splitK === 12 ? 5000 : 0
        return { durationMs: (8 - tile + Math.abs(splitK - 8) / 8) / (cluster + 1), workspaceBytes }
      },
    }

    it('finds the split, the tile and the cluster that are fastest together', async () => {
      const { fake, cublaslt, library, operands, stream } = await open()
      cublaslt.algorithms = [splitting, { durationMs: 7.5 }]
      cublaslt.capabilities = { splitK: 1, reductionMask: 7, tiles: [3, 4, 5, 6], hasClusters: true }
      const matmul = new Matmul(library, shape)
      const found = await searchAlgorithm(matmul, { stream, operands, wideMs: 1e4 })
      expect(readConfig(matmul, found)).toMatchObject({ id: 0, tile: 5, splitK: 8, reduction: 2, cluster: 2 })
      expect(found.medianUs).toBeCloseTo(1000, 3)
      expect(found.firstChoiceUs).toBeCloseTo(8875, 3)
      expect(matmul.check(found.bytes)).toMatchObject({ workspaceBytes: 0 })
      // 12 parts need more workspace than there is.
      const own = cublaslt.products.filter(({ algorithm }) => algorithm === 0)
      const splits = new Set(own.map(({ config }) => config.splitK))
      expect([splits.has(12), splits.has(10)]).toEqual([false, true])
      expectClean(fake)
    })

    it('tries no configuration twice, apart from rounds', async () => {
      const { cublaslt, library, operands, stream } = await open()
      cublaslt.algorithms = [splitting]
      cublaslt.capabilities = { splitK: 1, reductionMask: 7, tiles: [3, 4, 5], hasClusters: true }
      const options = { stream, operands, wideMs: 1e6, rounds: 0 }
      const { finalists, triedCount } = await timeCandidates(new Matmul(library, shape), options)
      const tried = cublaslt.products.map(({ config }) => JSON.stringify(config))
      // Each once to warm up; cuBLASLt's own is not timed in no rounds.
      expect(tried).toHaveLength(1 + 2 * (triedCount - 1))
      expect(new Set(tried).size).toBe(triedCount)
      expect(finalists).toHaveLength(8)
    })

    it('tries algorithms that are not named, by tile and stages', async () => {
      const { cublaslt, library, operands, stream } = await open()
      const unnamed: FakeAlgorithm = {
        durationMs: 9,
        isUnnamed: true,
        configured: ({ tile, stages }) => (tile === 0 ? undefined : { durationMs: 9 - tile - stages }),
      }
      cublaslt.algorithms = [{ durationMs: 5 }, unnamed]
      cublaslt.capabilities = { tiles: [1, 2], stages: [3, 4] }
      const matmul = new Matmul(library, shape)
      const found = await searchAlgorithm(matmul, { stream, operands, wideMs: 1e4 })
      expect(readConfig(matmul, found)).toMatchObject({ id: 1, tile: 2, stages: 4 })
      expect(found.medianUs).toBeCloseTo(3000, 3)
    })

    it('leaves out what fails, or gives another product', async () => {
      const { cublaslt, library, operands, stream } = await open()
      const bySplit = new Map<number, Partial<FakeAlgorithm>>([
        [1, { durationMs: 4 }],
        [2, { durationMs: 1, status: 14 }],
        [3, { durationMs: 2, product: 0x4000 }],
      ])
      cublaslt.algorithms = [{ durationMs: 3, configured: ({ splitK }) => bySplit.get(splitK) ?? {} }]
      cublaslt.capabilities = { splitK: 1, reductionMask: 1 }
      const matmul = new Matmul(library, shape)
      const found = await searchAlgorithm(matmul, { stream, operands, wideMs: 1e4 })
      expect(readConfig(matmul, found).splitK).toBeGreaterThan(3)
      expect(found.medianUs).toBeCloseTo(3000, 3)
    })

    it('ends when its time is over, and is done for some numbers of rows', async () => {
      const { cublaslt, library, operands, stream } = await open()
      cublaslt.algorithms = [splitting]
      cublaslt.capabilities = { splitK: 1, reductionMask: 7, tiles: [3, 4, 5], hasClusters: true }
      const count = async (rows: number, wideMs?: number) => {
        let now = 0
        const d = new DeviceBuffer(library.gpu, 'd', rows * 48 * 2).handle
        const limit = wideMs === undefined ? {} : { wideMs }
        const options = { stream, operands: { ...operands, d }, nowMs: () => now++, ...limit }
        return (await searchAlgorithm(new Matmul(library, { ...shape, rows }), options)).candidates
      }
      const [all, some] = [await count(16, 1e6), await count(16, 3)]
      expect([some > 1, some < all]).toEqual([true, true])
      const byRows = await Promise.all([16, 64, 80, 512, 640].map(async (rows) => (await count(rows)) > 1))
      expect(byRows).toEqual([false, false, true, true, false])
    })

    it('is kept apart from what another search found', async () => {
      const { cublaslt, library, operands, stream } = await open()
      cublaslt.algorithms = [splitting]
      cublaslt.capabilities = { splitK: 1, reductionMask: 7 }
      const cache = new DiskCache(folder)
      const search = async (wideMs: number) =>
        searchAlgorithm(new Matmul(library, shape), { stream, operands, cache, wideMs })
      // As a search that knew no other algorithms kept it.
      const { name, computeCapability, multiprocessorCount } = library.gpu.device
      const device = [name, computeCapability.major, computeCapability.minor, multiprocessorCount]
      const before = {
        cublaslt: library.version,
        workspaceBytes: library.workspace.bytes,
        candidateCount: 64,
      }
      const key = { ...before, device, shape: ['bf16', 16, 48, 64, false, false] }
      const stale = { medianUs: 1, firstChoiceUs: 1, candidates: 1, workspaceBytes: 0, algorithm: 'AQ==' }
      await cache.write(key, Buffer.from(JSON.stringify(stale)))
      expect((await search(0)).medianUs).toBeGreaterThan(1000)
      const wide = await search(1000)
      expect(wide.medianUs).toBeLessThan((await search(0)).medianUs)
      expect(await search(1000)).toEqual(wide)
      expect(cublaslt.heuristicCalls).toBe(2)
    })
  })

  it('tells when nothing runs', async () => {
    const { fake, cublaslt, library, operands, stream } = await open()
    cublaslt.algorithms = [{ durationMs: 1, status: 13 }]
    const error = await failureOf(searchAlgorithm(new Matmul(library, shape), { stream, operands }))
    expect(error).toMatchObject({ code: 'MATMUL_UNSUPPORTED', cause: { details: { status: 13 } } })
    expectClean(fake)
  })
})
