/** Time as the batching rooms see it, so that a simulator can own it. */
export interface Clock {
  /** Monotonic milliseconds with a fraction. */
  nowMs(): number
  /** Calls back once after `delayMs`; the result cancels it. */
  schedule(delayMs: number, callback: () => void): () => void
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  },
}
