/** Memory that JavaScript and kernels share: one piece on an integrated GPU, a pinned one and its twin elsewhere. */
import type { DevicePointer } from '../ffi/cuda.ts'
import type { GpuContext } from './context.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { PinnedBuffer } from './pinned-buffer.ts'
import type { GpuStream } from './stream.ts'

export class StagingBuffer implements Disposable {
  readonly host: PinnedBuffer
  readonly bytes: number
  readonly #twin: DeviceBuffer | undefined

  /** @throws {EmbedError} GPU_OUT_OF_MEMORY */
  constructor(gpu: GpuContext, name: string, bytes: number) {
    this.bytes = bytes
    this.host = new PinnedBuffer(gpu, name, bytes)
    try {
      if (this.host.devicePointer === undefined) this.#twin = new DeviceBuffer(gpu, name, bytes)
    } catch (error) {
      this.host[Symbol.dispose]()
      throw error
    }
  }

  /** What kernels are given. @throws {EmbedError} USED_AFTER_FREE */
  get devicePointer(): DevicePointer {
    return this.#twin === undefined ? this.host.devicePointer! : this.#twin.handle
  }

  /** Makes the first `bytes` that the host wrote visible to kernels of `stream`. */
  upload(stream: GpuStream, bytes: number = this.bytes): void {
    if (this.#twin !== undefined) stream.copy(this.#twin, this.host, { bytes })
  }

  /** Makes the first `bytes` that kernels wrote visible to the host once `stream` is there. */
  download(stream: GpuStream, bytes: number = this.bytes): void {
    if (this.#twin !== undefined) stream.copy(this.host, this.#twin, { bytes })
  }

  [Symbol.dispose](): void {
    this.#twin?.[Symbol.dispose]()
    this.host[Symbol.dispose]()
  }
}
