/** Page-locked host memory: copies to and from it run beside everything else, and JavaScript sees it without a copy. */
import { CU_MEMHOSTALLOC_DEVICEMAP, CU_MEMHOSTALLOC_PORTABLE, type DevicePointer } from '../ffi/cuda.ts'
import { type Pointer, readOut, viewMemory } from '../ffi/library.ts'
import { EmbedError } from '../../errors.ts'
import { NativeResource } from '../native-resource.ts'
import { allocate } from './allocate.ts'
import type { GpuContext } from './context.ts'

export class PinnedBuffer extends NativeResource<Pointer> {
  readonly bytes: number
  readonly #devicePointer: DevicePointer | undefined
  readonly #gpu: GpuContext
  #memory: ArrayBuffer | undefined

  /** @param options.isMapped kernels read it where it lies, over PCIe; always so on an integrated GPU. Default false.
   * @throws {EmbedError} GPU_OUT_OF_MEMORY */
  constructor(
    gpu: GpuContext,
    name: string,
    bytes: number,
    { isMapped = gpu.device.isIntegrated }: { readonly isMapped?: boolean } = {},
  ) {
    const cuda = gpu.makeCurrent()
    const resource = `the pinned buffer '${name}'`
    const flags = isMapped ? CU_MEMHOSTALLOC_DEVICEMAP : CU_MEMHOSTALLOC_PORTABLE
    super(
      resource,
      allocate<Pointer>(gpu, { memory: 'pinned', resource, bytes }, (out) =>
        cuda.cuMemHostAlloc(out, bytes, flags),
      ),
      gpu.children,
    )
    this.bytes = bytes
    this.#gpu = gpu
    if (isMapped) {
      this.#devicePointer = readOut<DevicePointer>((out) =>
        cuda.cuMemHostGetDevicePointer_v2(out, this.handle, 0),
      )
    }
  }

  /** The same memory as kernels see it, where it is mapped: on an integrated GPU that saves the copy. */
  get devicePointer(): DevicePointer | undefined {
    this.checkAlive()
    return this.#devicePointer
  }

  /** The memory itself. JavaScript cannot take a view back: one kept past the buffer's end must not be touched. */
  get memory(): ArrayBuffer {
    this.#memory ??= viewMemory(this.handle, this.bytes)
    return this.#memory
  }

  uint8(length: number = this.bytes, fromByte = 0): Uint8Array {
    return new Uint8Array(this.#slice(fromByte, length), fromByte, length)
  }

  /** @param length in values */
  int32(length: number = Math.floor(this.bytes / 4), fromByte = 0): Int32Array {
    return new Int32Array(this.#slice(fromByte, length * 4), fromByte, length)
  }

  bigInt64(length: number = Math.floor(this.bytes / 8), fromByte = 0): BigInt64Array {
    return new BigInt64Array(this.#slice(fromByte, length * 8), fromByte, length)
  }

  float32(length: number = Math.floor(this.bytes / 4), fromByte = 0): Float32Array {
    return new Float32Array(this.#slice(fromByte, length * 4), fromByte, length)
  }

  #slice(fromByte: number, bytes: number): ArrayBuffer {
    if (fromByte + bytes > this.bytes) {
      const reason = `a view of bytes ${fromByte} to ${fromByte + bytes} of ${this.resource}, which has ${this.bytes}`
      throw new EmbedError('INTERNAL', { reason })
    }
    return this.memory
  }

  protected override free(handle: Pointer): void {
    this.#memory = undefined
    this.#gpu.makeCurrent().cuMemFreeHost(handle)
  }
}
