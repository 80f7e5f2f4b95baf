import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { type FakeAlgorithm, FakeCublaslt } from '../../../test/fakes/cublaslt.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import { DiskCache } from '../../hardware/gpu/disk-cache.ts'
import { Matmul, MatmulLibrary } from '../../hardware/gpu/matmul.ts'
import { GpuStream } from '../../hardware/gpu/stream.ts'
import type { ProductPlan } from './linear-layers.ts'
import { settlePlans } from './settle-plans.ts'

const folder = await mkdtemp(join(tmpdir(), 'settle-plans-'))
afterAll(() => rm(folder, { recursive: true }))

/** A pass of two products that have these algorithms to choose from. */
async function open(algorithms: readonly FakeAlgorithm[]) {
  const fake = await openFakeGpu()
  const cublaslt = new FakeCublaslt(fake.driver)
  cublaslt.algorithms = algorithms
  const library = new MatmulLibrary(fake.gpu, cublaslt.api, { workspaceBytes: 4096 })
  const stream = new GpuStream(fake.gpu, 's')
  const buffer = () => new DeviceBuffer(fake.gpu, 'operand', 4096).handle
  const operands = { a: buffer(), b: buffer(), d: buffer() }
  const plans: ProductPlan[] = [16, 32].map((rows) => {
    const matmul = new Matmul(library, { precision: 'bf16', rows, columns: 48, inner: 64 })
    const choices = matmul
      .heuristics(operands)
      .map((choice, i) => ({ ...choice, nodes: 1 + (algorithms[i]!.memsets ?? 0) }))
    return { matmul, choices, algorithm: choices[0]! } satisfies ProductPlan
  })
  const pass = () => {
    for (const { matmul, algorithm } of plans) matmul.launch(stream, operands, algorithm)
  }
  const settle = async (cache?: DiskCache, nowMs?: () => number) => {
    for (const plan of plans) plan.algorithm = plan.choices[0]!
    const before = fake.driver.calls('cuStreamBeginCapture_v2')
    await settlePlans(plans, { stream, pass, cache, ...(nowMs === undefined ? {} : { nowMs }) })
    const chosen = plans.map(({ choices, algorithm }) => choices.findIndex((each) => each === algorithm))
    return { chosen, captures: fake.driver.calls('cuStreamBeginCapture_v2') - before }
  }
  return { fake, plans, settle }
}

it('takes what is fastest in the pass, though alone it is not', async () => {
  const { fake, settle } = await open([
    { durationMs: 2, recordedMs: 6 },
    { durationMs: 3, recordedMs: 3 },
    { durationMs: 4, recordedMs: 4 },
  ])
  // One pass with what is fastest alone, then two others for each product.
  expect(await settle()).toEqual({ chosen: [1, 1], captures: 1 + 2 * 2 })
  expectClean(fake)
})

it('stays with what is fastest alone where the pass is as fast with another', async () => {
  const { fake, settle } = await open([
    { durationMs: 2, recordedMs: 5 },
    { durationMs: 3, recordedMs: 4.99 },
  ])
  expect((await settle()).chosen).toEqual([0, 0])
  expectClean(fake)
})

it('ends when its time is over; of each product what has the fewest nodes is tried first', async () => {
  const { fake, settle } = await open([
    { durationMs: 2, recordedMs: 6, memsets: 1 },
    { durationMs: 3, recordedMs: 5, memsets: 1 },
    { durationMs: 4, recordedMs: 4 },
  ])
  let now = 0
  const nowMs = () => (now += 100)
  // From 100 on; before the third attempt it is 400.
  expect(await settle(undefined, nowMs)).toEqual({ chosen: [2, 2], captures: 1 + 2 })
  expectClean(fake)
})

it('chooses from what can be recorded', async () => {
  const algorithms = [
    { durationMs: 2, recordedMs: 6 },
    { durationMs: 3, recordedMs: 3 },
  ]
  for (const [failing, chosen] of [
    [1, [0, 0]],
    [2, [0, 1]],
    [3, [1, 0]],
  ] as const) {
    const { fake, settle } = await open(algorithms)
    fake.driver.fail('cuGraphInstantiateWithFlags', 900, failing)
    expect((await settle()).chosen).toEqual(chosen)
    expectClean(fake)
  }
})

it('keeps the choice on disk, for these choices', async () => {
  const cache = new DiskCache(folder)
  const algorithms = [
    { durationMs: 2, recordedMs: 6 },
    { durationMs: 3, recordedMs: 3 },
  ]
  for (const captures of [3, 0]) {
    const { settle } = await open(algorithms)
    expect(await settle(cache)).toEqual({ chosen: [1, 1], captures })
  }
  const { settle } = await open([...algorithms, { durationMs: 3, recordedMs: 1 }])
  expect((await settle(cache)).chosen).toEqual([2, 2])
})

it('compares nothing in a long pass, nor where there is nothing to choose', async () => {
  const long = await open([
    { durationMs: 20, recordedMs: 21 },
    { durationMs: 21, recordedMs: 1 },
  ])
  const cache = new DiskCache(join(folder, 'long'))
  expect(await long.settle(cache)).toEqual({ chosen: [0, 0], captures: 1 })
  // Nor is it timed again.
  expect(await long.settle(cache)).toEqual({ chosen: [0, 0], captures: 0 })
  expectClean(long.fake)
  const single = await open([{ durationMs: 2 }])
  expect(await single.settle()).toEqual({ chosen: [0, 0], captures: 0 })
})
