import type { Clock } from '../../src/serving/batching/clock.ts'

/** A clock that stands still until it is told to go on; timers fire in order of their time. */
export class VirtualClock implements Clock {
  #nowMs = 0
  #timers: { atMs: number; order: number; callback: () => void }[] = []
  #order = 0

  nowMs(): number {
    return this.#nowMs
  }

  schedule(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, order: this.#order++, callback }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer)
    }
  }

  get pendingTimers(): number {
    return this.#timers.length
  }

  /** Goes on by `durationMs`, firing what is due; microtasks run between timers. */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.#nowMs + durationMs
    await settleMicrotasks()
    for (;;) {
      const due = this.#timers.filter((timer) => timer.atMs <= endMs)
      const next = due.toSorted((a, b) => a.atMs - b.atMs || a.order - b.order)[0]
      if (next === undefined) break
      this.#timers = this.#timers.filter((timer) => timer !== next)
      this.#nowMs = next.atMs
      next.callback()
      await settleMicrotasks()
    }
    this.#nowMs = endMs
    await settleMicrotasks()
  }
}

/** Lets every promise that is ready run its continuation. */
export async function settleMicrotasks(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve))
}
