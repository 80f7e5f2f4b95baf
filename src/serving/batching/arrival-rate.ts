/** Time after which an arrival counts for little. */
const memoryMs = 250

/** How many inputs arrive a millisecond, with the past fading exponentially. */
export class ArrivalRate {
  #perMs = 0
  #atMs = 0

  note(inputs: number, nowMs: number): void {
    this.#perMs = this.perMs(nowMs) + inputs / memoryMs
    this.#atMs = nowMs
  }

  perMs(nowMs: number): number {
    return this.#perMs * Math.exp(-(nowMs - this.#atMs) / memoryMs)
  }
}
