/** A CUDA graph for each shape of batch that comes again: one launch instead of hundreds, 1 us a kernel instead of 4. */
import { captureGraph, type GpuGraph } from '../../hardware/gpu/graph.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { ForwardPass, GpuBatch } from './forward-pass.ts'

export class PassGraphs {
  /** Why there are none any more. */
  failure: unknown
  readonly #forward: ForwardPass
  readonly #capacity: number
  /** In order of their last use. */
  readonly #graphs = new Map<string, GpuGraph>()
  readonly #seen = new Set<string>()

  /** @param capacity most graphs at once; 0: none */
  constructor(forward: ForwardPass, capacity: number) {
    this.#forward = forward
    this.#capacity = capacity
  }

  /** False once one could not be recorded. */
  get areUsed(): boolean {
    return this.#capacity > 0 && this.failure === undefined
  }

  get count(): number {
    return this.#graphs.size
  }

  /** Enqueues the pass: by its graph from the second time on that a shape comes. */
  launch(stream: GpuStream, batch: GpuBatch): void {
    const graph = this.#take(stream, batch)
    if (graph === undefined) this.#forward.enqueue(stream, batch)
    else graph.launch(stream)
  }

  #take(stream: GpuStream, batch: GpuBatch): GpuGraph | undefined {
    if (!this.areUsed) return undefined
    // All that the launches depend on; the values are in the buffers.
    const key = [batch.rows, batch.sequences, batch.normalize, batch.shared?.rows].join(' ')
    let graph = this.#graphs.get(key)
    if (graph === undefined) {
      if (!this.#seen.has(key)) {
        this.#seen.add(key)
        return undefined
      }
      try {
        graph = captureGraph(stream, () => this.#forward.enqueue(stream, batch))
      } catch (error) {
        this.failure = error
        return undefined
      }
      this.#evict()
    }
    this.#graphs.delete(key)
    this.#graphs.set(key, graph)
    return graph
  }

  /** Its last launch is over: the engine waits for every pass. */
  #evict(): void {
    if (this.#graphs.size < this.#capacity) return
    const [key, oldest] = this.#graphs.entries().next().value!
    this.#graphs.delete(key)
    oldest[Symbol.dispose]()
  }
}
