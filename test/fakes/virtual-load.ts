/** Load in virtual time: what a busy machine does to real timers cannot fail a test. */
import type { LoadClock } from '../../src/tuning/measure/load.ts'
import type { LoadTarget, TargetCounters } from '../../src/tuning/measure/target.ts'
import { VirtualClock } from './virtual-clock.ts'

export class VirtualLoadClock extends VirtualClock implements LoadClock {
  waitUntil(timeMs: number): Promise<void> {
    return new Promise((resolve) => this.schedule(Math.max(0, timeMs - this.nowMs()), resolve))
  }

  /** Lets time pass until the promise settles. */
  async until<Value>(promise: Promise<Value>): Promise<Value> {
    const state = { isSettled: false }
    const settled = promise.finally(() => (state.isSettled = true))
    // Its failure is the caller's, below.
    settled.catch(() => undefined)
    while (!state.isSettled) await this.advance(1)
    return settled
  }
}

export const noCounters: TargetCounters = {
  batches: undefined,
  inputs: undefined,
  paddingRatioSum: undefined,
  cpuSeconds: undefined,
  rssBytes: undefined,
}

/** Answers after what `delayMs` says of the call (from 1) and the time of it. */
export class VirtualTarget implements LoadTarget {
  readonly name: string
  readonly #clock: VirtualLoadClock
  readonly #delayMs: (call: number, nowMs: number) => number
  calls = 0
  running = 0
  /** Most calls that were under way at once. */
  most = 0

  constructor(name: string, clock: VirtualLoadClock, delayMs: (call: number, nowMs: number) => number) {
    this.name = name
    this.#clock = clock
    this.#delayMs = delayMs
  }

  async send(): Promise<void> {
    this.calls++
    this.running++
    this.most = Math.max(this.most, this.running)
    await this.#clock.waitUntil(this.#clock.nowMs() + this.#delayMs(this.calls, this.#clock.nowMs()))
    this.running--
  }

  readCounters(): Promise<TargetCounters> {
    return Promise.resolve(noCounters)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve()
  }
}
