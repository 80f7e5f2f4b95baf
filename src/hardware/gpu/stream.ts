/** A queue of work on the GPU: in order within itself, beside all other streams. */
import { CU_STREAM_NON_BLOCKING, type CudaStream, type DevicePointer } from '../ffi/cuda.ts'
import { type Pointer, readOut } from '../ffi/library.ts'
import { EmbedError } from '../../errors.ts'
import { NativeResource } from '../native-resource.ts'
import type { GpuContext } from './context.ts'
import { DeviceBuffer } from './device-buffer.ts'
import type { GpuEvent } from './event.ts'
import type { PinnedBuffer } from './pinned-buffer.ts'

/** Default: all of the target, both from their first byte. */
export interface CopyRange {
  readonly bytes?: number
  readonly toByte?: number
  readonly fromByte?: number
}

export class GpuStream extends NativeResource<CudaStream> {
  readonly gpu: GpuContext

  constructor(gpu: GpuContext, name: string) {
    const cuda = gpu.makeCurrent()
    super(
      `the stream '${name}'`,
      readOut<CudaStream>((out) => cuda.cuStreamCreate(out, CU_STREAM_NON_BLOCKING)),
      gpu.children,
    )
    this.gpu = gpu
  }

  /** Enqueues a copy and returns at once; the buffers must live until it is done. */
  copy(to: DeviceBuffer | PinnedBuffer, from: DeviceBuffer | PinnedBuffer, range: CopyRange = {}): void {
    const { toByte = 0, fromByte = 0, bytes = to.bytes - toByte } = range
    checkRange(to, toByte, bytes)
    checkRange(from, fromByte, bytes)
    const cuda = this.gpu.makeCurrent()
    const [target, source] = [to.handle + BigInt(toByte), from.handle + BigInt(fromByte)]
    if (to instanceof DeviceBuffer && from instanceof DeviceBuffer) {
      cuda.cuMemcpyDtoDAsync_v2(target as DevicePointer, source as DevicePointer, bytes, this.handle)
    } else if (to instanceof DeviceBuffer) {
      cuda.cuMemcpyHtoDAsync_v2(target as DevicePointer, source as Pointer, bytes, this.handle)
    } else if (from instanceof DeviceBuffer) {
      cuda.cuMemcpyDtoHAsync_v2(target as Pointer, source as DevicePointer, bytes, this.handle)
    } else {
      throw new EmbedError('INTERNAL', { reason: `a copy between ${from.resource} and ${to.resource}` })
    }
  }

  /** Enqueues the setting of the first `bytes` to `value`. */
  setBytes(buffer: DeviceBuffer, value: number, bytes: number = buffer.bytes): void {
    checkRange(buffer, 0, bytes)
    this.gpu.makeCurrent().cuMemsetD8Async(buffer.handle, value, bytes, this.handle)
  }

  /** What is enqueued here from now on starts after `event`. */
  waitFor(event: GpuEvent): void {
    this.gpu.makeCurrent().cuStreamWaitEvent(this.handle, event.handle, 0)
  }

  /** @throws {EmbedError} CUDA_STATUS when its work failed */
  get isIdle(): boolean {
    return this.gpu.makeCurrent().cuStreamQuery(this.handle)
  }

  /** Waits off the event loop until all that was enqueued is done. @throws {EmbedError} CUDA_STATUS */
  async idle(): Promise<void> {
    await this.gpu.completion.wait(() => this.isIdle)
  }

  /** The driver lets enqueued work finish. */
  protected override free(handle: CudaStream): void {
    this.gpu.makeCurrent().cuStreamDestroy_v2(handle)
  }
}

function checkRange(buffer: DeviceBuffer | PinnedBuffer, fromByte: number, bytes: number): void {
  if (fromByte >= 0 && bytes >= 0 && fromByte + bytes <= buffer.bytes) return
  const reason = `bytes ${fromByte} to ${fromByte + bytes} of ${buffer.resource}, which has ${buffer.bytes}`
  throw new EmbedError('INTERNAL', { reason })
}
