import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { acquireLock } from './lock.ts'

let folder = ''
let path = ''
const fast = { pollMs: 5, maxWaitMs: 5000 }

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lock-'))
  path = join(folder, 'sub', 'a.lock')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

function holder(pid: number, host: string): string {
  return JSON.stringify({ pid, host, token: 'x' })
}

// Above any pid_max (2^22): never alive.
const deadPid = 2 ** 22 + 1

test('only one holder at a time, and nothing is left behind', async () => {
  let inside = 0
  let most = 0
  const work = async (): Promise<void> => {
    await using lock = await acquireLock(path, fast)
    expect(lock).toBeDefined()
    inside++
    most = Math.max(most, inside)
    await sleep(5)
    inside--
  }
  await Promise.all(Array.from({ length: 12 }, work))
  expect(most).toBe(1)
  expect(await readdir(join(folder, 'sub'))).toEqual([])
})

test('gives up after maxWaitMs and names the holder', async () => {
  await using lock = await acquireLock(path, fast)
  expect(lock).toBeDefined()
  const waitedFor: string[] = []
  const onWait = (name: string) => waitedFor.push(name)
  const error = await failureOf(acquireLock(path, { ...fast, maxWaitMs: 50, onWait }))
  expect(error.code).toBe('CACHE_LOCKED')
  const name = `process ${process.pid} on ${hostname()}`
  expect(error.message).toContain(name)
  expect(waitedFor).toEqual([name])
})

test('an abort ends the wait', async () => {
  await using lock = await acquireLock(path, fast)
  expect(lock).toBeDefined()
  const error = await failureOf(acquireLock(path, { pollMs: 10_000, signal: AbortSignal.timeout(30) }))
  expect(error.code).toBe('REQUEST_CANCELLED')
})

test('the lock of a dead process of this host is taken over at once, by one waiter only', async () => {
  const file = join(folder, 'b.lock')
  await writeFile(file, holder(deadPid, hostname()))
  let inside = 0
  let most = 0
  const work = async (): Promise<void> => {
    const lock = await acquireLock(file, fast)
    inside++
    most = Math.max(most, inside)
    await sleep(5)
    inside--
    await lock[Symbol.asyncDispose]()
  }
  await Promise.all(Array.from({ length: 8 }, work))
  expect(most).toBe(1)
  expect(await readdir(folder)).toEqual([])
})

test('the lock of another host is taken over only after it fell silent', async () => {
  const file = join(folder, 'c.lock')
  await writeFile(file, holder(deadPid, 'elsewhere'))
  expect((await failureOf(acquireLock(file, { ...fast, maxWaitMs: 50 }))).code).toBe('CACHE_LOCKED')
  const longAgo = new Date(Date.now() - 31_000)
  await utimes(file, longAgo, longAgo)
  const lock = await acquireLock(file, { ...fast, maxWaitMs: 50 })
  await lock[Symbol.asyncDispose]()
})

test('a holder that lives keeps its lock beyond the stale time', async () => {
  const lock = await acquireLock(path, { ...fast, staleAfterMs: 120 })
  const error = await failureOf(acquireLock(path, { pollMs: 5, maxWaitMs: 500, staleAfterMs: 120 }))
  expect(error.code).toBe('CACHE_LOCKED')
  await lock[Symbol.asyncDispose]()
  expect(existsSync(path)).toBe(false)
})

test('a holder that lost its lock does not remove the new one', async () => {
  const lock = await acquireLock(path, fast)
  await writeFile(path, holder(1, 'elsewhere'))
  await lock[Symbol.asyncDispose]()
  expect(existsSync(path)).toBe(true)
})
