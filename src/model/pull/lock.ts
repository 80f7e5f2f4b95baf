import { randomUUID } from 'node:crypto'
import { link, mkdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { EmbedError } from '../../errors.ts'
import { toWriteError } from './file-error.ts'

export interface LockOptions {
  readonly signal?: AbortSignal | undefined
  /** Default 30 minutes: a model of 8 GB over 40 Mbit/s. */
  readonly maxWaitMs?: number
  /** A lock whose holder has not touched it for so long is taken over. Default 30000. */
  readonly staleAfterMs?: number
  readonly pollMs?: number
  /** Called once when another holder is waited for, with its name. */
  readonly onWait?: (holder: string) => void
}

/** Takes an exclusive lock between processes, also on a volume that several hosts share: a file with pid and host that
 * its holder touches while it lives. Waits for another holder; one that died is replaced. The caller disposes it.
 * @throws {EmbedError} CACHE_LOCKED after maxWaitMs, REQUEST_CANCELLED, NO_SPACE, FILE_UNWRITABLE */
export async function acquireLock(path: string, options: LockOptions = {}): Promise<AsyncDisposable> {
  const { signal, maxWaitMs = 30 * 60_000, staleAfterMs = 30_000, pollMs = 250, onWait } = options
  let isWaiting = false
  const content = JSON.stringify({ pid: process.pid, host: hostname(), token: randomUUID() })
  const startedMs = performance.now()
  for (;;) {
    if (signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {}, { cause: signal.reason })
    if (await tryCreate(path, content)) return holdLock(path, content, staleAfterMs)
    const holder = await readHolder(path)
    if (holder === undefined) continue
    if (isStale(holder, staleAfterMs)) {
      await removeStale(path, holder.content)
      continue
    }
    const waitedMs = Math.round(performance.now() - startedMs)
    const name = `process ${holder.pid} on ${holder.host}`
    if (!isWaiting) onWait?.(name)
    isWaiting = true
    if (waitedMs >= maxWaitMs) {
      throw new EmbedError('CACHE_LOCKED', { path, holder: name, waitedMs })
    }
    // The abort is met at the top of the loop.
    await sleep(pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined)
  }
}

/** Runs while it holds the lock. @throws as acquireLock, and what `run` throws */
export async function withLock<Result>(
  path: string,
  options: LockOptions,
  run: () => Promise<Result>,
): Promise<Result> {
  const lock = await acquireLock(path, options)
  try {
    return await run()
  } finally {
    await lock[Symbol.asyncDispose]()
  }
}

interface Holder {
  readonly content: string
  readonly pid: number
  readonly host: string
  readonly ageMs: number
}

async function tryCreate(path: string, content: string): Promise<boolean> {
  try {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, content, { flag: 'wx' })
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw toWriteError(error, path)
  }
}

function holdLock(path: string, content: string, staleAfterMs: number): AsyncDisposable {
  const heartbeat = setInterval(() => {
    const now = new Date()
    // Gone or not ours to touch: nothing to do here, the release looks again.
    utimes(path, now, now).catch(() => undefined)
  }, staleAfterMs / 6)
  heartbeat.unref()
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(heartbeat)
      if ((await readFile(path, 'utf8').catch(() => '')) === content) await rm(path, { force: true })
    },
  }
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const [content, { mtimeMs }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    const ageMs = Date.now() - mtimeMs
    const [, pid = '0', host = 'an unknown host'] = /"pid":(\d+),"host":"([^"]*)"/.exec(content) ?? []
    return { content, pid: Number(pid), host, ageMs }
  } catch {
    return undefined
  }
}

/** Another host's pid says nothing here, and a restarted container may have got the pid of its predecessor: for those
 * only the silence counts. */
function isStale(holder: Holder, staleAfterMs: number): boolean {
  if (holder.ageMs > staleAfterMs) return true
  return holder.host === hostname() && holder.pid > 0 && holder.pid !== process.pid && !isAlive(holder.pid)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** Moved aside, then looked at: another waiter may have replaced the dead lock by its own since we read it. */
async function removeStale(path: string, staleContent: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`
  try {
    await rename(path, aside)
    if ((await readFile(aside, 'utf8')) !== staleContent) await link(aside, path)
  } catch {
    // Someone else was faster.
  } finally {
    await rm(aside, { force: true })
  }
}
