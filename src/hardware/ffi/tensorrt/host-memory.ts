/** Bytes that TensorRT made: a plan, a timing cache. */
import { type Pointer, viewMemory } from '../library.ts'
import { TensorrtObject } from './object.ts'
import type { Tensorrt } from './tensorrt.ts'

export class HostMemory extends TensorrtObject {
  constructor(tensorrt: Tensorrt, handle: Pointer) {
    super(tensorrt, "TensorRT's memory", handle)
  }

  /** The bytes in place: gone once this is freed. At most 4 GiB, else see `memory`. */
  get bytes(): Uint8Array {
    const { pointer, bytes } = this.memory
    return new Uint8Array(viewMemory(pointer, bytes))
  }

  /** Where they are, however many. */
  get memory(): { readonly pointer: Pointer; readonly bytes: number } {
    return { pointer: this.callChecked('IHostMemory::data'), bytes: Number(this.call('IHostMemory::size')) }
  }
}
