/** Which shapes deserve a CUDA graph: those that come again, as many as the bound allows, the least recently used one goes.
 *
 * Each graph has an execution context of its own, as NVIDIA advises: a recording is valid only while its context's shapes
 * stay as they were. */
import type { EngineShape } from './profile-shapes.ts'

/** A shape met once costs a recording that may never be used. */
const usesBeforeGraph = 2
/** Counts kept of shapes that have no graph; then counting begins anew. */
const maxCountedShapes = 4096
/** So many cells more take no longer: 1 x 16 and 1 x 128 tokens of Qwen3-4B differ by 1 % on an H100. */
const freeCells = 128
/** Above that a longer shape is taken for its graph only when it adds at most this share. */
const maxExtraRatio = 1.125

export class GraphShapes {
  /** Grows when a shape loses its graph. */
  generation = 0
  readonly #capacity: number
  #isOff: boolean
  #isClosed = false
  readonly #uses = new Map<number, number>()
  /** By key, the one used last at the end. */
  readonly #hot = new Map<number, EngineShape>()

  /** @param capacity 0: no graphs */
  constructor(capacity: number) {
    this.#capacity = capacity
    this.#isOff = capacity === 0
  }

  has({ key }: Pick<EngineShape, 'key'>): boolean {
    return this.#hot.has(key)
  }

  get isOpen(): boolean {
    return !this.#isOff && !this.#isClosed
  }

  get count(): number {
    return this.#hot.size
  }

  /** Counts a run. @returns whether the shape is to have a graph from now on */
  use(shape: EngineShape): boolean {
    const { key } = shape
    if (this.#isOff) return false
    if (this.#hot.delete(key)) {
      this.#hot.set(key, shape)
      return true
    }
    if (this.#isClosed) return false
    const uses = (this.#uses.get(key) ?? 0) + 1
    if (uses >= usesBeforeGraph) {
      this.promote(shape)
      return true
    }
    if (this.#uses.size >= maxCountedShapes) this.#uses.clear()
    this.#uses.set(key, uses)
    return false
  }

  /** The shape is to have a graph whether it came before or not. */
  promote(shape: EngineShape): void {
    if (this.#isOff) return
    this.#uses.delete(shape.key)
    this.#hot.set(shape.key, shape)
    if (this.#hot.size <= this.#capacity) return
    const [oldest] = this.#hot.keys()
    this.#hot.delete(oldest!)
    this.generation++
  }

  /** The shape itself, or one of as many rows and slightly more tokens that has a graph. */
  prefer(shape: EngineShape): EngineShape {
    if (this.#hot.has(shape.key)) return shape
    const { plan, profile, rows, tokens } = shape
    const most = Math.max(tokens * maxExtraRatio, Math.min(tokens + freeCells / rows, 2 * tokens))
    let best = shape
    for (const other of this.#hot.values()) {
      if (other.plan !== plan || other.profile !== profile || other.rows !== rows) continue
      if (other.tokens < tokens || other.tokens > most) continue
      if (best === shape || other.tokens < best.tokens) best = other
    }
    return best
  }

  /** Those there are stay, no more come. */
  close(): void {
    this.#isClosed = true
    this.#uses.clear()
  }

  /** No graphs any more: recording failed. */
  turnOff(): void {
    this.#isOff = true
    this.#hot.clear()
    this.generation++
  }
}
