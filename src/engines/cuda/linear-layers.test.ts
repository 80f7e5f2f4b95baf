import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { type FakeAlgorithm, FakeCublaslt } from '../../../test/fakes/cublaslt.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import { DiskCache } from '../../hardware/gpu/disk-cache.ts'
import { MatmulLibrary } from '../../hardware/gpu/matmul.ts'
import { GpuStream } from '../../hardware/gpu/stream.ts'
import { LinearLayers, sampledRows } from './linear-layers.ts'

/** The first is cuBLASLt's first choice, the second the fastest. */
const algorithms: readonly FakeAlgorithm[] = [{ durationMs: 2 }, { durationMs: 1 }]

async function open(options: { readonly cache?: DiskCache } = {}) {
  const fake = await openFakeGpu({ l2CacheBytes: 4096 })
  const cublaslt = new FakeCublaslt(fake.driver)
  cublaslt.algorithms = algorithms
  const linear = new LinearLayers(new MatmulLibrary(fake.gpu, cublaslt.api, { workspaceBytes: 4096 }), 'bf16')
  const stream = new GpuStream(fake.gpu, 's')
  const pointer = () => new DeviceBuffer(fake.gpu, 'operand', 1 << 20).handle
  const weights = { values: pointer(), scale: undefined, bias: undefined, columns: 48, inner: 64 }
  const [input, output] = [{ values: pointer(), scale: undefined }, pointer()]
  const call = (rows: number, accumulate = false) => ({ rows, input, output, accumulate })
  /** @returns the algorithm that a product takes */
  const launch = (rows: number, accumulate = false) => {
    linear.launch(stream, weights, call(rows, accumulate))
    return cublaslt.products.at(-1)!.algorithm
  }
  const search = async (rows: number) => linear.search(stream, weights, call(rows), options.cache)
  const chooseBetween = async () => linear.chooseBetween(stream, options.cache)
  return { fake, cublaslt, launch, search, chooseBetween }
}

it('samples eight numbers of rows for each doubling, and the most', () => {
  expect(sampledRows(640)).toEqual([16, 32, 48, 64, 80, 96, 112, 128, 256, 384, 512, 640])
  expect(sampledRows(4096).slice(-10)).toEqual([1920, 2048, 2304, 2560, 2816, 3072, 3328, 3584, 3840, 4096])
  expect(sampledRows(16_000).slice(-2)).toEqual([15_360, 16_000])
  expect([sampledRows(16), sampledRows(48)]).toEqual([[16], [16, 32, 48]])
})

it('takes for rows that were not searched the fastest of the first choice and what was found for others', async () => {
  const { fake, cublaslt, launch, search, chooseBetween } = await open()
  // The first choice is the better one at 384 rows, and only there.
  cublaslt.algorithms = [
    { durationMs: 2, durationFor: (rows) => (rows === 384 ? 0.5 : 2) },
    { durationMs: 1 },
  ]
  await search(512)
  await search(16)
  await chooseBetween()
  expect([launch(512), launch(16), launch(256), launch(384), launch(300), launch(100)]).toEqual([
    1, 1, 1, 0, 0, 1,
  ])
  // More rows than any that was searched, and another product.
  expect([launch(640), launch(256, true)]).toEqual([0, 0])
  expectClean(fake)
})

it("takes cuBLASLt's first choice where the other cannot run", async () => {
  const { cublaslt, launch, search, chooseBetween } = await open()
  await search(512)
  // The library refuses it in other shapes.
  cublaslt.algorithms = [algorithms[0]!, { durationMs: 1, workspaceBytes: 1 << 20 }]
  await chooseBetween()
  expect([launch(256), launch(512)]).toEqual([0, 1])
})

it('times nothing at the next start', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'linear-layers-'))
  try {
    const cache = new DiskCache(folder)
    const first = await open({ cache })
    await first.search(512)
    await first.chooseBetween()
    expect(first.cublaslt.products.length).toBeGreaterThan(20)
    const second = await open({ cache })
    await second.search(512)
    await second.chooseBetween()
    expect(second.cublaslt.products).toEqual([])
    expect(second.launch(256)).toBe(1)
  } finally {
    await rm(folder, { recursive: true })
  }
})
