import type { Clock } from '../../src/serving/batching/clock.ts'

interface Timer {
  readonly atMs: number
  readonly callback: () => void
  isCancelled: boolean
}

/** A clock that stands still until it is told to go on; timers fire in order of their time, equal ones in order of call. */
export class VirtualClock implements Clock {
  #nowMs = 0
  /** Sorted by time, the next one last. */
  readonly #timers: Timer[] = []
  #pending = 0

  nowMs(): number {
    return this.#nowMs
  }

  schedule(delayMs: number, callback: () => void): () => void {
    const timer: Timer = { atMs: this.#nowMs + delayMs, callback, isCancelled: false }
    let place = this.#timers.length
    while (place > 0 && this.#timers[place - 1]!.atMs <= timer.atMs) place--
    this.#timers.splice(place, 0, timer)
    this.#pending++
    return () => {
      if (timer.isCancelled) return
      timer.isCancelled = true
      this.#pending--
    }
  }

  defer(callback: () => void): void {
    queueMicrotask(callback)
  }

  get pendingTimers(): number {
    return this.#pending
  }

  /** Goes on by `durationMs`, firing what is due; microtasks run between timers. */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.#nowMs + durationMs
    await settleMicrotasks()
    while (this.#fireNext(endMs)) await settleMicrotasks()
    this.#nowMs = endMs
    await settleMicrotasks()
  }

  /** @returns false when no timer is due by `endMs` */
  #fireNext(endMs: number): boolean {
    for (
      let next = this.#timers.at(-1);
      next !== undefined && next.atMs <= endMs;
      next = this.#timers.at(-1)
    ) {
      this.#timers.pop()
      if (next.isCancelled) continue
      next.isCancelled = true
      this.#pending--
      this.#nowMs = next.atMs
      next.callback()
      return true
    }
    return false
  }
}

/** Lets every promise that is ready run its continuation. */
export async function settleMicrotasks(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve))
}
