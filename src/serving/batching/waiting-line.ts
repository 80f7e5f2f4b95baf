import type { QueuedInput } from './queue.ts'

/** Inputs in the order in which they came. What was deleted is passed over, and swept out once it is the larger part:
 * the first of a Set after many deletions would cost a search. */
class Fifo implements Iterable<QueuedInput> {
  readonly #isWaiting: (input: QueuedInput) => boolean
  #items: QueuedInput[] = []
  #head = 0
  #deleted = 0

  constructor(isWaiting: (input: QueuedInput) => boolean) {
    this.#isWaiting = isWaiting
  }

  get size(): number {
    return this.#items.length - this.#head - this.#deleted
  }

  get first(): QueuedInput | undefined {
    while (this.#head < this.#items.length && !this.#isWaiting(this.#items[this.#head]!)) {
      this.#head++
      this.#deleted--
    }
    return this.#items[this.#head]
  }

  add(input: QueuedInput): void {
    this.#items.push(input)
  }

  /** To be told after an input of this list stopped waiting. */
  noteDeleted(): void {
    this.#deleted++
    if (this.#deleted + this.#head <= 16 + this.size) return
    this.#items = this.#items.filter((input, i) => i >= this.#head && this.#isWaiting(input))
    this.#head = 0
    this.#deleted = 0
  }

  *[Symbol.iterator](): Generator<QueuedInput> {
    for (let i = this.#head; i < this.#items.length; i++) {
      if (this.#isWaiting(this.#items[i]!)) yield this.#items[i]!
    }
  }
}

/** Inputs that wait, in order of arrival and by length. Adding, removing and finding the oldest cost the same however
 * many wait; walking to neighbours in length costs a step for each length that occurs. */
export class WaitingLine implements Iterable<QueuedInput> {
  readonly #waiting = new Set<QueuedInput>()
  readonly #isWaiting = (input: QueuedInput): boolean => this.#waiting.has(input)
  readonly #inOrder = new Fifo(this.#isWaiting)
  readonly #byLength = new Map<number, Fifo>()
  /** Keys of #byLength, ascending. */
  readonly #lengths: number[] = []
  #tokens = 0

  get size(): number {
    return this.#waiting.size
  }

  get tokens(): number {
    return this.#tokens
  }

  get oldest(): QueuedInput | undefined {
    return this.#inOrder.first
  }

  [Symbol.iterator](): Iterator<QueuedInput> {
    return this.#inOrder[Symbol.iterator]()
  }

  add(input: QueuedInput): void {
    const { length } = input.ids
    this.#waiting.add(input)
    this.#inOrder.add(input)
    this.#tokens += length
    let sameLength = this.#byLength.get(length)
    if (sameLength === undefined) {
      this.#byLength.set(length, (sameLength = new Fifo(this.#isWaiting)))
      this.#lengths.splice(this.#firstFrom(length), 0, length)
    }
    sameLength.add(input)
  }

  /** @returns false when it was not there */
  delete(input: QueuedInput): boolean {
    if (!this.#waiting.delete(input)) return false
    const { length } = input.ids
    this.#tokens -= length
    this.#inOrder.noteDeleted()
    const sameLength = this.#byLength.get(length)!
    sameLength.noteDeleted()
    if (sameLength.size === 0) {
      this.#byLength.delete(length)
      this.#lengths.splice(this.#firstFrom(length), 1)
    }
    return true
  }

  /** Inputs of at most `length` tokens, longest first, among equals the oldest first. */
  *atMost(length: number): Generator<QueuedInput, undefined> {
    for (let i = this.#firstFrom(length + 1) - 1; i >= 0; i--) yield* this.#byLength.get(this.#lengths[i]!)!
    return undefined
  }

  /** Inputs of more than `length` tokens, shortest first, among equals the oldest first. */
  *moreThan(length: number): Generator<QueuedInput, undefined> {
    for (let i = this.#firstFrom(length + 1); i < this.#lengths.length; i++) {
      yield* this.#byLength.get(this.#lengths[i]!)!
    }
    return undefined
  }

  /** Place of the first length that is not below `length`. */
  #firstFrom(length: number): number {
    let low = 0
    let high = this.#lengths.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#lengths[middle]! < length) low = middle + 1
      else high = middle
    }
    return low
  }
}
