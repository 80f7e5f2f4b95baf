/** Time as the batching rooms see it, so that a simulator can own it. */
export interface Clock {
  /** Monotonic milliseconds with a fraction. */
  nowMs(): number
  /** Calls back once after `delayMs`; the result cancels it. */
  schedule(delayMs: number, callback: () => void): () => void
  /** Calls back once when everything that has already arrived was handled. */
  defer(callback: () => void): void
}

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  },
  // The phase after the poll for I/O: requests that came in the same turn of the event loop share a batch.
  defer(callback) {
    setImmediate(callback)
  },
}
