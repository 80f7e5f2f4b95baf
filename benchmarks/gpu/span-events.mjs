// A batch's time by CUDA events around all that an engine enqueues for it, without the engine knowing: its function table
// of the driver is given with a few functions that record events too.
import { CU_EVENT_DEFAULT } from '../../dist/hardware/ffi/cuda.js'
import { readOut } from '../../dist/hardware/ffi/library.js'

/** Its `cuda` goes to the engine; `begin` before a batch, `endMs` after it. */
export class SpanEvents {
  /** Of a batch: from just before its first copy or graph to just after its last. */
  isOn = false
  #cuda
  #events
  #hasStart = false
  #hasEnd = false

  constructor(cuda) {
    this.#cuda = cuda
    const around = (api, stream) => {
      const call = cuda[api]
      return (...args) => {
        if (!this.isOn) {
          call(...args)
          return
        }
        const streamHandle = args[stream]
        if (!this.#hasStart) {
          this.#hasStart = true
          cuda.cuEventRecord(this.#events.start, streamHandle)
        }
        call(...args)
        this.#hasEnd = true
        // Each one moves the event: the last one counts.
        cuda.cuEventRecord(this.#events.end, streamHandle)
      }
    }
    this.cuda = {
      ...cuda,
      cuMemcpyHtoDAsync_v2: around('cuMemcpyHtoDAsync_v2', 3),
      cuMemcpyDtoHAsync_v2: around('cuMemcpyDtoHAsync_v2', 3),
      cuGraphLaunch: around('cuGraphLaunch', 1),
    }
  }

  /** The GPU's context must be current. */
  begin() {
    const create = () => readOut((out) => this.#cuda.cuEventCreate(out, CU_EVENT_DEFAULT))
    this.#events ??= { start: create(), end: create() }
    this.#hasStart = this.#hasEnd = false
    this.isOn = true
  }

  /** After the engine's answer. @returns undefined for an engine that copies and launches otherwise */
  endMs() {
    this.isOn = false
    if (!this.#hasStart || !this.#hasEnd) return undefined
    while (!this.#cuda.cuEventQuery(this.#events.end)); // the copy back may be seen before the event after it
    return readOut((out) => this.#cuda.cuEventElapsedTime(out, this.#events.start, this.#events.end))
  }
}
