import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { failureOf, thrownBy } from '../../../test/fakes/failure.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { settleMicrotasks } from '../../../test/fakes/virtual-clock.ts'
import { type BufferLease, BufferPool } from './buffer-pool.ts'
import { DeviceBuffer } from './device-buffer.ts'

async function openPool(options: { capacity?: number; totalBytes?: number; nowMs?: () => number } = {}) {
  const { totalBytes, ...rest } = options
  const fake = await openFakeGpu(totalBytes === undefined ? {} : { totalBytes })
  const create = (bytes: number) => new DeviceBuffer(fake.gpu, 'pooled', bytes)
  return { fake, pool: new BufferPool({ name: 'the test pool', create, ...rest }) }
}

const KiB = 1024

it('lends eight at most by default, and makes none before it is needed', async () => {
  const { fake, pool } = await openPool()
  expect(fake.driver.live.deviceBuffers).toBe(0)
  const leases = await Promise.all(Array.from({ length: 8 }, () => pool.acquire(100)))
  const ninth = pool.acquire(100)
  expect(pool.statistics).toMatchObject({ capacity: 8, leased: 8, waiting: 1, bytes: 8 * 4 * KiB, reused: 0 })
  leases[3]![Symbol.dispose]()
  await ninth
  expect(pool.statistics).toMatchObject({ leased: 8, waiting: 0, acquired: 9, reused: 1, waited: 1 })
  expect(fake.driver.calls('cuMemAlloc_v2')).toBe(8)
  expectClean(fake)
})

it('lends the buffer released last first', async () => {
  const { fake, pool } = await openPool()
  const [a, b, c] = [await pool.acquire(1), await pool.acquire(1), await pool.acquire(1)]
  const last = b.buffer
  for (const lease of [a, c, b]) lease[Symbol.dispose]()
  expect((await pool.acquire(1)).buffer).toBe(last)
  expectClean(fake)
})

it('takes the smallest idle buffer that is large enough', async () => {
  const { fake, pool } = await openPool()
  const [large, small, middle] = [
    await pool.acquire(64 * KiB),
    await pool.acquire(4 * KiB),
    await pool.acquire(9 * KiB),
  ]
  const wanted = middle.buffer
  for (const lease of [middle, small, large]) lease[Symbol.dispose]()
  const lease = await pool.acquire(5 * KiB)
  expect([lease.buffer === wanted, wanted.bytes]).toEqual([true, 16 * KiB])
  expectClean(fake)
})

it('frees the idle buffer released first for one of another size, at capacity', async () => {
  const { fake, pool } = await openPool({ capacity: 2 })
  const [a, b] = [await pool.acquire(1), await pool.acquire(1)]
  const [first, second] = [a.buffer, b.buffer]
  a[Symbol.dispose]()
  b[Symbol.dispose]()
  expect((await pool.acquire(8 * KiB)).buffer.bytes).toBe(8 * KiB)
  expect([first.isFreed, second.isFreed, pool.statistics.evicted]).toEqual([true, false, 1])
  expectClean(fake)
})

it('serves in order of asking, and tells how long was waited', async () => {
  let nowMs = 0
  const { fake, pool } = await openPool({ capacity: 1, nowMs: () => nowMs })
  const held = await pool.acquire(1)
  const order: string[] = []
  const ask = async (name: string, bytes: number) => {
    const lease = await pool.acquire(bytes)
    order.push(name)
    nowMs += 10
    lease[Symbol.dispose]()
  }
  // The first needs another buffer than the one that comes back; the second does not overtake it.
  const asked = [ask('large', 64 * KiB), ask('small', 1)]
  await settleMicrotasks()
  nowMs = 5
  held[Symbol.dispose]()
  await Promise.all(asked)
  expect([order, pool.statistics.waited, pool.statistics.waitedMs]).toEqual([['large', 'small'], 2, 5 + 15])
  expectClean(fake)
})

it('drops whoever cancels', async () => {
  const { fake, pool } = await openPool({ capacity: 1 })
  const held = await pool.acquire(1)
  const leaving = new AbortController()
  const cancelled = pool.acquire(1, { signal: leaving.signal })
  const next = pool.acquire(1, { signal: AbortSignal.timeout(60_000) })
  leaving.abort()
  expect((await failureOf(cancelled)).code).toBe('REQUEST_CANCELLED')
  expect((await failureOf(pool.acquire(1, { signal: AbortSignal.abort() }))).code).toBe('REQUEST_CANCELLED')
  held[Symbol.dispose]()
  expect((await next).buffer.isFreed).toBe(false)
  expect(pool.statistics).toMatchObject({ leased: 1, waiting: 0 })
  expectClean(fake)
})

it('refuses a lease that has ended, and takes it back once', async () => {
  const { fake, pool } = await openPool()
  const lease = await pool.acquire(1)
  lease[Symbol.dispose]()
  lease[Symbol.dispose]()
  expect(thrownBy(() => lease.buffer)).toMatchObject({
    code: 'USED_AFTER_FREE',
    details: { resource: 'a lease of the test pool' },
  })
  expect(pool.statistics).toMatchObject({ idle: 1, leased: 0 })
  expectClean(fake)
})

it('frees its idle buffers and tries again when memory runs out', async () => {
  const { fake, pool } = await openPool({ totalBytes: 100 * KiB })
  const leases = [await pool.acquire(32 * KiB), await pool.acquire(32 * KiB)]
  for (const lease of leases) lease[Symbol.dispose]()
  const large = await pool.acquire(64 * KiB)
  expect(large.buffer.bytes).toBe(64 * KiB)
  expect(pool.statistics).toMatchObject({ idle: 0, leased: 1, outOfMemory: 1 })
  // The idle buffers go, but it is still not enough: 64 KiB are leased.
  const idle = await pool.acquire(4 * KiB)
  idle[Symbol.dispose]()
  const error = await failureOf(pool.acquire(40 * KiB))
  expect([error.code, error.details]).toEqual([
    'GPU_OUT_OF_MEMORY',
    expect.objectContaining({ neededBytes: 64 * KiB, freeBytes: 36 * KiB, totalBytes: 100 * KiB }),
  ])
  expect([pool.statistics.outOfMemory, pool.statistics.idle]).toEqual([2, 0])
  // Nothing idle to free: the driver is asked once.
  const calls = fake.driver.calls('cuMemAlloc_v2')
  expect((await failureOf(pool.acquire(40 * KiB))).code).toBe('GPU_OUT_OF_MEMORY')
  expect(fake.driver.calls('cuMemAlloc_v2')).toBe(calls + 1)
  expect((await pool.acquire(4 * KiB)).buffer.bytes).toBe(4 * KiB)
  expectClean(fake)
})

it('tells the one who waits that memory ran out, and serves the next', async () => {
  const { fake, pool } = await openPool({ capacity: 2, totalBytes: 64 * KiB })
  const [a, b] = [await pool.acquire(1), await pool.acquire(1)]
  const [tooLarge, next] = [pool.acquire(128 * KiB), pool.acquire(1)]
  b[Symbol.dispose]()
  expect((await failureOf(tooLarge)).code).toBe('GPU_OUT_OF_MEMORY')
  expect((await next).buffer.bytes).toBe(4 * KiB)
  a[Symbol.dispose]()
  expectClean(fake)
})

it('frees what is idle at its end, the rest as it comes back, and refuses whoever waits', async () => {
  const { fake, pool } = await openPool({ capacity: 2 })
  const [a, b] = [await pool.acquire(1), await pool.acquire(1)]
  b[Symbol.dispose]()
  const taken = await pool.acquire(1)
  const waiting = pool.acquire(1)
  taken[Symbol.dispose]()
  ;(await waiting)[Symbol.dispose]()
  const held = await pool.acquire(1)
  const refused = pool.acquire(1)
  pool[Symbol.dispose]()
  expect((await failureOf(refused)).details).toEqual({ resource: 'the test pool' })
  expect((await failureOf(pool.acquire(1))).code).toBe('USED_AFTER_FREE')
  expect(fake.driver.live.deviceBuffers).toBe(2)
  a[Symbol.dispose]()
  held[Symbol.dispose]()
  expect(fake.driver.live.deviceBuffers).toBe(0)
  expectClean(fake)
})

it('never lends one buffer twice nor holds more than its capacity, whatever the order', async () => {
  const step = fc.oneof(
    fc.record({ take: fc.integer({ min: 1, max: 40 * KiB }) }),
    fc.record({ give: fc.nat({ max: 7 }) }),
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1, max: 4 }),
      async (steps, capacity) => {
        const { fake, pool } = await openPool({ capacity, totalBytes: 150 * KiB })
        const held: BufferLease<DeviceBuffer>[] = []
        const asked: Promise<unknown>[] = []
        for (const action of steps) {
          if ('take' in action) {
            const bytes = action.take
            asked.push(
              pool.acquire(bytes).then(
                (lease) => {
                  expect(lease.buffer.bytes).toBeGreaterThanOrEqual(bytes)
                  return held.push(lease)
                },
                (error: { code?: string }) => expect(error.code).toBe('GPU_OUT_OF_MEMORY'),
              ),
            )
          } else held.splice(action.give % Math.max(1, held.length), 1)[0]?.[Symbol.dispose]()
          await settleMicrotasks()
          const { idle, leased } = pool.statistics
          expect(idle + leased).toBeLessThanOrEqual(capacity)
          expect([leased, fake.driver.live.deviceBuffers]).toEqual([held.length, idle + leased])
          expect(new Set(held.map((lease) => lease.buffer)).size).toBe(held.length)
        }
        // Giving back lets everybody who waits through.
        while (pool.statistics.waiting > 0) {
          held.shift()![Symbol.dispose]()
          await settleMicrotasks()
        }
        await Promise.all(asked)
        expectClean(fake)
      },
    ),
    { numRuns: 60 },
  )
})
