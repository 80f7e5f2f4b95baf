/** Bytes that TensorRT made: a plan, a timing cache. */
import { type Pointer, viewMemory } from '../library.ts'
import { TensorrtObject } from './object.ts'
import type { Tensorrt } from './tensorrt.ts'

export class HostMemory extends TensorrtObject {
  constructor(tensorrt: Tensorrt, handle: Pointer) {
    super(tensorrt, "TensorRT's memory", handle)
  }

  /** The bytes in place: gone once this is freed. */
  get bytes(): Uint8Array {
    const sizeBytes = Number(this.call('IHostMemory::size'))
    return new Uint8Array(viewMemory(this.callChecked('IHostMemory::data'), sizeBytes))
  }
}
