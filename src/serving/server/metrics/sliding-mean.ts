/** Mean of what was added in the last minute, in constant memory: a ring of slots, the oldest of which is dropped. */

export const windowSeconds = 60
const slotCount = 12
const slotMs = (windowSeconds * 1000) / slotCount

export class SlidingMean {
  readonly #nowMs: () => number
  readonly #sums = new Float64Array(slotCount)
  readonly #counts = new Float64Array(slotCount)
  #slot: number

  /** @param nowMs monotonic clock */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs
    this.#slot = Math.floor(nowMs() / slotMs)
  }

  add(value: number): void {
    this.#advance()
    const place = this.#slot % slotCount
    this.#sums[place]! += value
    this.#counts[place]! += 1
  }

  /** How many values the window holds. */
  get count(): number {
    this.#advance()
    return this.#counts.reduce((sum, count) => sum + count, 0)
  }

  /** 0 when the window is empty. */
  get mean(): number {
    const { count } = this
    return count === 0 ? 0 : this.#sums.reduce((sum, slot) => sum + slot, 0) / count
  }

  #advance(): void {
    const slot = Math.floor(this.#nowMs() / slotMs)
    const passed = Math.min(slot - this.#slot, slotCount)
    for (let step = 0; step < passed; step++) {
      const place = (slot - step) % slotCount
      this.#sums[place] = 0
      this.#counts[place] = 0
    }
    this.#slot = slot
  }
}
