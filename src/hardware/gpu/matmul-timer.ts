/** How long algorithms take for one product, its operands not in the L2 cache. */
import { EmbedError } from '../../errors.ts'
import type { GpuContext } from './context.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { GpuEvent } from './event.ts'
import type { Matmul, MatmulOperands } from './matmul.ts'
import type { Candidate } from './matmul-candidate.ts'
import type { GpuStream } from './stream.ts'

/** Enqueued before any is waited for, so that the GPU has no pause between them. */
const batch = 32

export class MatmulTimer implements Disposable {
  readonly #matmul: Matmul
  readonly #stream: GpuStream
  readonly #operands: MatmulOperands
  readonly #flush: DeviceBuffer
  readonly #events: { readonly start: GpuEvent; readonly end: GpuEvent }[] = []
  #round = 0

  /** @param operands D is written over */
  constructor(matmul: Matmul, stream: GpuStream, operands: MatmulOperands) {
    const { gpu } = matmul.library
    this.#matmul = matmul
    this.#stream = stream
    this.#operands = operands
    this.#flush = makeFlush(gpu)
  }

  /** Once each, in order. @param options.isWarmUp the times do not count: the first launch loads the kernel */
  async time(
    candidates: readonly Candidate[],
    { isWarmUp = false }: { readonly isWarmUp?: boolean } = {},
  ): Promise<void> {
    this.#round++
    for (let from = 0; from < candidates.length; from += batch) {
      const launched = candidates
        .slice(from, from + batch)
        .map((candidate, i) => ({ candidate, ...this.#eventsAt(i) }))
        .filter(({ candidate, ...events }) => this.#launch(candidate, events))
      await launched.at(-1)?.end.done()
      if (isWarmUp) continue
      for (const { candidate, start, end } of launched) candidate.us.push(end.elapsedMsSince(start) * 1000)
    }
  }

  /** The stream must be idle. */
  [Symbol.dispose](): void {
    for (const { start, end } of this.#events) {
      start[Symbol.dispose]()
      end[Symbol.dispose]()
    }
    this.#flush[Symbol.dispose]()
  }

  #eventsAt(index: number): { readonly start: GpuEvent; readonly end: GpuEvent } {
    const { gpu } = this.#matmul.library
    return (this.#events[index] ??= {
      start: new GpuEvent(gpu, { timing: true }),
      end: new GpuEvent(gpu, { timing: true }),
    })
  }

  /** @returns false when it does not run: what is named or checked may still be refused */
  #launch(
    candidate: Candidate,
    { start, end }: { readonly start: GpuEvent; readonly end: GpuEvent },
  ): boolean {
    this.#stream.setBytes(this.#flush, this.#round & 0xff)
    start.record(this.#stream)
    try {
      this.#matmul.launch(this.#stream, this.#operands, candidate.algorithm)
    } catch (error) {
      candidate.error = error
      return false
    }
    end.record(this.#stream)
    return true
  }
}

/** Twice the cache; where there is no room for that, less of it is flushed. @throws {EmbedError} GPU_OUT_OF_MEMORY */
function makeFlush(gpu: GpuContext): DeviceBuffer {
  const { l2CacheBytes } = gpu.device
  for (let bytes = 2 * l2CacheBytes; ; bytes = Math.ceil(bytes / 2)) {
    try {
      return new DeviceBuffer(gpu, 'L2 flush', bytes)
    } catch (error) {
      const isFull = error instanceof EmbedError && error.code === 'GPU_OUT_OF_MEMORY'
      if (!isFull || bytes < l2CacheBytes / 4) throw error
    }
  }
}
