/** Streams, events and the stream pool: what runs beside what, by the fake GPU's clock. */
import { expect, it } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { expectClean, type FakeGpu, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { settleMicrotasks } from '../../../test/fakes/virtual-clock.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { GpuEvent } from './event.ts'
import { KernelArguments } from './kernel-arguments.ts'
import { GpuModule } from './module.ts'
import { PinnedBuffer } from './pinned-buffer.ts'
import { GpuStream } from './stream.ts'
import { type BatchStages, StreamPool } from './stream-pool.ts'

const MiB = 1 << 20
/** Adds one to every byte of the buffer whose address and length it is given. */
const kernels = {
  increment: {
    durationMs: 5,
    run: ([pointer, bytes]: readonly bigint[], driver: FakeGpu['driver']) => {
      const memory = driver.deviceBytes(pointer!, Number(bytes))
      memory.set(memory.map((value) => value + 1))
    },
  },
}

/** Copies of 1 ms there and back, a kernel of 5 ms between them. */
function makeBatch({ gpu }: FakeGpu, value: number) {
  const kernel = new GpuModule(gpu, 'increment', new Uint8Array(1)).kernel('increment')
  const [input, output] = [new PinnedBuffer(gpu, 'in', MiB), new PinnedBuffer(gpu, 'out', MiB)]
  const device = new DeviceBuffer(gpu, 'batch', MiB)
  input.uint8().fill(value)
  const stages: BatchStages = {
    h2d: (stream) => stream.copy(device, input),
    compute: (stream) =>
      kernel.launch(
        stream,
        { grid: [1], block: [1] },
        new KernelArguments(['pointer', 'i64']).set(device.handle, MiB),
      ),
    d2h: (stream) => stream.copy(output, device),
  }
  return { stages, read: () => [output.uint8()[0], output.uint8()[MiB - 1]] }
}

it('runs the copies of a batch beside the kernels of its neighbours', async () => {
  const fake = await openFakeGpu({ kernels })
  const pool = new StreamPool(fake.gpu, { timing: true })
  const batches = [10, 20, 30].map((value) => makeBatch(fake, value))
  const times = await Promise.all(batches.map(({ stages }) => pool.runBatch(stages)))
  expect(batches.map(({ read }) => read())).toEqual([
    [11, 11],
    [21, 21],
    [31, 31],
  ])
  // Kernels stand back to back; the second batch arrives while the first computes and the first leaves while the second does.
  expect(times).toEqual([
    { h2d: { fromMs: 0, toMs: 1 }, compute: { fromMs: 1, toMs: 6 }, d2h: { fromMs: 6, toMs: 7 } },
    { h2d: { fromMs: 1, toMs: 2 }, compute: { fromMs: 6, toMs: 11 }, d2h: { fromMs: 11, toMs: 12 } },
    { h2d: { fromMs: 2, toMs: 3 }, compute: { fromMs: 11, toMs: 16 }, d2h: { fromMs: 16, toMs: 17 } },
  ])
  pool[Symbol.dispose]()
  expect([fake.driver.live.events, fake.driver.live.streams]).toEqual([0, 0])
  expectClean(fake)
})

it('runs stages in order, also when they are given in another, and does without those left out', async () => {
  const fake = await openFakeGpu({ kernels })
  const pool = new StreamPool(fake.gpu)
  const { stages } = makeBatch(fake, 0)
  const order: string[] = []
  await pool.runBatch({
    d2h: (stream) => (order.push('d2h'), stages.d2h!(stream)),
    tokenize: () => order.push('tokenize'),
    h2d: (stream) => (order.push('h2d'), stages.h2d!(stream)),
  })
  expect(order).toEqual(['tokenize', 'h2d', 'd2h'])
  const copies = fake.driver.timeline.executed.filter(({ what }) => what === 'h2d' || what === 'd2h')
  expect(copies.map(({ what, fromMs, toMs }) => [what, fromMs, toMs])).toEqual([
    ['h2d', 0, 1],
    ['d2h', 1, 2],
  ])
  expect(await pool.runBatch({})).toEqual({})
  pool[Symbol.dispose]()
  expectClean(fake)
})

it('uses its events again', async () => {
  const fake = await openFakeGpu({ kernels })
  const pool = new StreamPool(fake.gpu)
  const { stages } = makeBatch(fake, 0)
  for (let i = 0; i < 5; i++) await pool.runBatch(stages)
  expect(fake.driver.calls('cuEventCreate')).toBe(3)
  pool[Symbol.dispose]()
  expectClean(fake)
})

it('settles a failed batch only when what was enqueued is done', async () => {
  const fake = await openFakeGpu({ kernels, autoAdvance: false })
  const pool = new StreamPool(fake.gpu)
  const { stages } = makeBatch(fake, 0)
  let settled = false
  const failed = failureOf(
    pool
      .runBatch({ ...stages, compute: (stream) => stream.waitFor(freedEvent) })
      .finally(() => (settled = true)),
  )
  await settleMicrotasks()
  expect(settled).toBe(false)
  fake.driver.timeline.advance(1)
  expect((await failed).code).toBe('USED_AFTER_FREE')
  const [again] = [pool.runBatch(stages)]
  fake.driver.timeline.advance(100)
  await again
  pool[Symbol.dispose]()
  expectClean(fake)
})
const freedEvent = await (async () => {
  const event = new GpuEvent((await openFakeGpu()).gpu, { timing: false })
  event[Symbol.dispose]()
  return event
})()

it('finishes a batch under way when the pool is freed, and leaves no event behind', async () => {
  const fake = await openFakeGpu({ kernels })
  const pool = new StreamPool(fake.gpu, { timing: true })
  const batch = makeBatch(fake, 1)
  const running = pool.runBatch(batch.stages)
  pool[Symbol.dispose]()
  expect((await failureOf(pool.runBatch(batch.stages))).code).toBe('USED_AFTER_FREE')
  expect(await running).toEqual({})
  expect([batch.read(), fake.driver.live.events, fake.driver.live.streams]).toEqual([[2, 2], 0, 0])
  expectClean(fake)
})

it('hands on what the GPU failed with', async () => {
  const fake = await openFakeGpu({ kernels })
  const pool = new StreamPool(fake.gpu)
  const { stages } = makeBatch(fake, 0)
  const running = pool.runBatch(stages)
  fake.driver.breakGpu(700)
  expect(await failureOf(running)).toMatchObject({
    code: 'CUDA_STATUS',
    details: { status: 700, name: 'CUDA_ERROR_ILLEGAL_ADDRESS' },
  })
})

it('makes a stream wait for an event of another, and measures between two', async () => {
  const fake = await openFakeGpu()
  const { gpu, driver } = fake
  const [first, second] = [new GpuStream(gpu, 'first'), new GpuStream(gpu, 'second')]
  const [a, b] = [new DeviceBuffer(gpu, 'a', 3 * MiB), new DeviceBuffer(gpu, 'b', 2 * MiB)]
  const pinned = new PinnedBuffer(gpu, 'p', 2 * MiB)
  const [start, end, never] = Array.from({ length: 3 }, () => new GpuEvent(gpu, { timing: true }))
  start!.record(first)
  first.setBytes(a, 1)
  end!.record(first)
  second.waitFor(end!)
  second.copy(b, pinned)
  expect([first.isIdle, end!.isDone, never!.isDone]).toEqual([false, true, true])
  await second.idle()
  expect(end!.elapsedMsSince(start!)).toBe(3)
  expect(driver.timeline.executed.filter(({ what }) => what === 'h2d')).toEqual([
    expect.objectContaining({ fromMs: 3, toMs: 5 }),
  ])
  expectClean(fake)
})

it('refuses an event freed while it is waited for', async () => {
  const fake = await openFakeGpu({ autoAdvance: false })
  const { gpu } = fake
  const stream = new GpuStream(gpu, 's')
  const event = new GpuEvent(gpu, { timing: false })
  stream.setBytes(new DeviceBuffer(gpu, 'a', MiB), 1)
  event.record(stream)
  const waiting = failureOf(event.done())
  event[Symbol.dispose]()
  expect((await waiting).code).toBe('USED_AFTER_FREE')
  expectClean(fake)
})
