/** A bounded number of buffers, lent out and taken back: whoever comes when all are lent waits, nothing grows. */
import { EmbedError } from '../../errors.ts'

export interface PooledBuffer extends Disposable {
  readonly bytes: number
}

export interface BufferPoolOptions<Buffer extends PooledBuffer> {
  /** For messages. */
  readonly name: string
  /** @throws {EmbedError} GPU_OUT_OF_MEMORY */
  readonly create: (bytes: number) => Buffer
  /** Most buffers at once. Default 8. */
  readonly capacity?: number
  readonly nowMs?: () => number
}

export interface BufferPoolStatistics {
  readonly capacity: number
  readonly idle: number
  readonly leased: number
  readonly waiting: number
  /** Of all buffers, idle and leased. */
  readonly bytes: number
  readonly acquired: number
  /** Of those acquired: the ones that needed no allocation. */
  readonly reused: number
  /** Of those acquired: the ones that had to wait, and for how long together. */
  readonly waited: number
  readonly waitedMs: number
  /** Idle buffers freed to make room for one of another size. */
  readonly evicted: number
  /** Times the idle buffers were freed because memory had run out. */
  readonly outOfMemory: number
}

interface Waiter<Buffer extends PooledBuffer> {
  readonly bytes: number
  readonly resolve: (lease: BufferLease<Buffer>) => void
  readonly reject: (error: unknown) => void
}

/** Sizes are rounded up to powers of two of at least a page, so that batches of like size share buffers. */
const minBytes = 4096

export class BufferPool<Buffer extends PooledBuffer> implements Disposable {
  readonly #name: string
  readonly #create: (bytes: number) => Buffer
  readonly #capacity: number
  readonly #nowMs: () => number
  /** The one released last stands last: its memory is still in the caches. */
  readonly #idle: Buffer[] = []
  readonly #leased = new Set<Buffer>()
  readonly #waiters: Waiter<Buffer>[] = []
  readonly #counts = { acquired: 0, reused: 0, waited: 0, waitedMs: 0, evicted: 0, outOfMemory: 0 }
  #isFreed = false

  constructor(options: BufferPoolOptions<Buffer>) {
    this.#name = options.name
    this.#create = options.create
    this.#capacity = options.capacity ?? 8
    this.#nowMs = options.nowMs ?? (() => performance.now())
  }

  get statistics(): BufferPoolStatistics {
    const all = [...this.#idle, ...this.#leased]
    return {
      capacity: this.#capacity,
      idle: this.#idle.length,
      leased: this.#leased.size,
      waiting: this.#waiters.length,
      bytes: all.reduce((sum, buffer) => sum + buffer.bytes, 0),
      ...this.#counts,
    }
  }

  /** A buffer of at least `bytes`, in order of asking: `using lease = await pool.acquire(n)`.
   * @throws {EmbedError} GPU_OUT_OF_MEMORY, REQUEST_CANCELLED, USED_AFTER_FREE */
  async acquire(
    bytes: number,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<BufferLease<Buffer>> {
    this.#checkAlive()
    const { signal } = options
    if (signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {})
    // Nobody overtakes those who wait.
    const lease = this.#waiters.length === 0 ? this.#take(bytes) : undefined
    return lease ?? this.#wait(bytes, signal)
  }

  /** Frees the idle buffers at once and the leased ones as they come back; whoever waits is refused. */
  [Symbol.dispose](): void {
    this.#isFreed = true
    this.#freeIdle()
    for (const { reject } of this.#waiters.splice(0)) {
      reject(new EmbedError('USED_AFTER_FREE', { resource: this.#name }))
    }
  }

  /** A lease if one can be had without waiting. */
  #take(bytes: number): BufferLease<Buffer> | undefined {
    const buffer = this.#takeIdle(bytes) ?? this.#allocate(bytes)
    if (buffer === undefined) return undefined
    this.#leased.add(buffer)
    this.#counts.acquired++
    return new BufferLease(this.#name, buffer, () => this.#release(buffer))
  }

  /** The smallest idle buffer that is large enough, among equals the one released last. */
  #takeIdle(bytes: number): Buffer | undefined {
    let best = -1
    for (const [index, buffer] of this.#idle.entries()) {
      if (buffer.bytes < bytes) continue
      if (best === -1 || buffer.bytes <= this.#idle[best]!.bytes) best = index
    }
    if (best === -1) return undefined
    this.#counts.reused++
    return this.#idle.splice(best, 1)[0]
  }

  #allocate(bytes: number): Buffer | undefined {
    if (this.#idle.length + this.#leased.size >= this.#capacity) {
      const oldest = this.#idle.shift()
      if (oldest === undefined) return undefined
      this.#counts.evicted++
      oldest[Symbol.dispose]()
    }
    const roundedBytes = Math.max(minBytes, 2 ** Math.ceil(Math.log2(bytes)))
    try {
      return this.#create(roundedBytes)
    } catch (error) {
      if (!isOutOfMemory(error) || this.#idle.length === 0) throw error
      this.#counts.outOfMemory++
      this.#freeIdle()
      return this.#create(roundedBytes)
    }
  }

  #wait(bytes: number, signal: AbortSignal | undefined): Promise<BufferLease<Buffer>> {
    const sinceMs = this.#nowMs()
    return new Promise((resolve, reject) => {
      const settle = () => signal?.removeEventListener('abort', abort)
      const waiter: Waiter<Buffer> = {
        bytes,
        resolve: (lease) => {
          settle()
          this.#counts.waited++
          this.#counts.waitedMs += this.#nowMs() - sinceMs
          resolve(lease)
        },
        reject: (error) => {
          settle()
          reject(error)
        },
      }
      const abort = () => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
        waiter.reject(new EmbedError('REQUEST_CANCELLED', {}))
      }
      signal?.addEventListener('abort', abort)
      this.#waiters.push(waiter)
    })
  }

  #release(buffer: Buffer): void {
    this.#leased.delete(buffer)
    if (this.#isFreed) buffer[Symbol.dispose]()
    else this.#idle.push(buffer)
    this.#serveWaiters()
  }

  #serveWaiters(): void {
    while (this.#waiters.length > 0) {
      const { bytes, resolve, reject } = this.#waiters[0]!
      try {
        const lease = this.#take(bytes)
        if (lease === undefined) return
        this.#waiters.shift()
        resolve(lease)
      } catch (error) {
        this.#waiters.shift()
        reject(error)
      }
    }
  }

  #freeIdle(): void {
    for (const buffer of this.#idle.splice(0)) buffer[Symbol.dispose]()
  }

  #checkAlive(): void {
    if (this.#isFreed) throw new EmbedError('USED_AFTER_FREE', { resource: this.#name })
  }
}

/** The right to use a buffer until the lease ends. */
export class BufferLease<Buffer extends PooledBuffer> implements Disposable {
  readonly #poolName: string
  readonly #release: () => void
  #buffer: Buffer | undefined

  constructor(poolName: string, buffer: Buffer, release: () => void) {
    this.#poolName = poolName
    this.#buffer = buffer
    this.#release = release
  }

  /** @throws {EmbedError} USED_AFTER_FREE once the lease has ended */
  get buffer(): Buffer {
    if (this.#buffer === undefined) {
      throw new EmbedError('USED_AFTER_FREE', { resource: `a lease of ${this.#poolName}` })
    }
    return this.#buffer
  }

  /** Gives the buffer back; to do so again changes nothing. */
  [Symbol.dispose](): void {
    if (this.#buffer === undefined) return
    this.#buffer = undefined
    this.#release()
  }
}

function isOutOfMemory(error: unknown): boolean {
  return error instanceof EmbedError && error.code === 'GPU_OUT_OF_MEMORY'
}
