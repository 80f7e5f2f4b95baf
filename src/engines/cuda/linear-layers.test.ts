import { expect, it } from 'vitest'
import { type FakeAlgorithm, FakeCublaslt } from '../../../test/fakes/cublaslt.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import { MatmulLibrary } from '../../hardware/gpu/matmul.ts'
import { GpuStream } from '../../hardware/gpu/stream.ts'
import { LinearLayers, nearestRows } from './linear-layers.ts'

/** The first is cuBLASLt's first choice, the second the fastest. */
const algorithms: readonly FakeAlgorithm[] = [{ durationMs: 2 }, { durationMs: 1 }]

async function open(options: { readonly nearest?: boolean } = {}) {
  const fake = await openFakeGpu({ l2CacheBytes: 4096 })
  const cublaslt = new FakeCublaslt(fake.driver)
  cublaslt.algorithms = algorithms
  const linear = new LinearLayers(
    new MatmulLibrary(fake.gpu, cublaslt.api, { workspaceBytes: 4096 }),
    'bf16',
    options,
  )
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
  const search = async (rows: number) => linear.search(stream, weights, call(rows))
  return { fake, cublaslt, launch, search }
}

it('names the nearest number of rows by its ratio', () => {
  const searched = [16, 128, 512, 4096]
  expect([384, 640, 1024, 2048, 3968, 8192].map((rows) => nearestRows(rows, searched))).toEqual([
    512, 512, 512, 4096, 4096, 4096,
  ])
  // Twice the one and half the other: the larger.
  expect(nearestRows(256, searched)).toBe(512)
  expect([nearestRows(1152, searched), nearestRows(9000, searched), nearestRows(48, searched)]).toEqual([
    undefined,
    undefined,
    undefined,
  ])
})

it('takes for rows that were not searched for what was found for nearly as many', async () => {
  const { fake, launch, search } = await open()
  expect(launch(512)).toBe(0)
  await search(512)
  expect(launch(512)).toBe(1)
  expect([launch(384), launch(1024)]).toEqual([1, 1])
  // Too few, too many, or another product.
  expect([launch(128), launch(1152), launch(640, true)]).toEqual([0, 0, 0])
  expectClean(fake)
})

it("takes cuBLASLt's first choice where the other cannot run, or where so asked", async () => {
  const refusing = await open()
  await refusing.search(512)
  // The library refuses it in this shape.
  refusing.cublaslt.algorithms = [algorithms[0]!, { durationMs: 1, workspaceBytes: 1 << 20 }]
  expect(refusing.launch(640)).toBe(0)
  const switchedOff = await open({ nearest: false })
  await switchedOff.search(512)
  expect([switchedOff.launch(512), switchedOff.launch(640)]).toEqual([1, 0])
})
