/** Waits for the GPU without blocking the event loop and without another thread.
 *
 * Why by polling: a context is current per thread and koffi's asynchronous calls run on threads of their own, so
 * cuEventSynchronize there would lean on undocumented behaviour and hold one of libuv's four threads a wait;
 * cuLaunchHostFunc stays silent after a failure on the GPU. A query costs well below a microsecond and tells failures. */

/** Poll on every turn of the event loop for this long: a batch is mostly done by then, and that is seen at once. */
const eagerMs = 50
/** Afterwards sleep between polls: late by a timer's 1 to 2 ms, and the core is free. */
const sleepMs = 1

export interface PollTimer {
  nowMs(): number
  /** After the event loop has served what is ready. */
  soon(callback: () => void): void
  later(callback: () => void, delayMs: number): void
}

const eventLoop: PollTimer = {
  nowMs: () => performance.now(),
  soon: (callback) => void setImmediate(callback),
  later: (callback, delayMs) => void setTimeout(callback, delayMs),
}

interface Waiter {
  readonly isDone: () => boolean
  readonly sinceMs: number
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class CompletionPoller {
  readonly #timer: PollTimer
  #waiters: Waiter[] = []
  #scheduled: 'soon' | 'later' | undefined
  /** Calls back only the poll scheduled last. */
  #generation = 0

  constructor(timer: PollTimer = eventLoop) {
    this.#timer = timer
  }

  get waiting(): number {
    return this.#waiters.length
  }

  /** Settles once `isDone` gives true, or rejects with what it throws. Always a turn of the event loop later: a row of
   * batches that are each done at once must not keep it from requests and cancels. */
  async wait(isDone: () => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#waiters.push({ isDone, sinceMs: this.#timer.nowMs(), resolve, reject })
      this.#schedule()
    })
  }

  #schedule(): void {
    const nowMs = this.#timer.nowMs()
    const wanted = this.#waiters.some(({ sinceMs }) => nowMs - sinceMs < eagerMs) ? 'soon' : 'later'
    if (this.#waiters.length === 0 || this.#scheduled === 'soon' || this.#scheduled === wanted) return
    this.#scheduled = wanted
    const generation = ++this.#generation
    const poll = () => {
      if (generation !== this.#generation) return
      this.#scheduled = undefined
      this.#poll()
      this.#schedule()
    }
    if (wanted === 'soon') this.#timer.soon(poll)
    else this.#timer.later(poll, sleepMs)
  }

  #poll(): void {
    this.#waiters = this.#waiters.filter(({ isDone, resolve, reject }) => {
      try {
        if (!isDone()) return true
        resolve()
      } catch (error) {
        reject(error)
      }
      return false
    })
  }
}
