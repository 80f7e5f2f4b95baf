/** A piece of the GPU's memory. */
import type { DevicePointer } from '../ffi/cuda.ts'
import { NativeResource } from '../native-resource.ts'
import { allocate } from './allocate.ts'
import type { GpuContext } from './context.ts'

export class DeviceBuffer extends NativeResource<DevicePointer> {
  readonly bytes: number
  readonly #gpu: GpuContext

  /** @throws {EmbedError} GPU_OUT_OF_MEMORY */
  constructor(gpu: GpuContext, name: string, bytes: number) {
    const cuda = gpu.makeCurrent()
    const resource = `the device buffer '${name}'`
    super(
      resource,
      allocate<DevicePointer>(gpu, { memory: 'device', resource, bytes }, (out) =>
        cuda.cuMemAlloc_v2(out, bytes),
      ),
      gpu.children,
    )
    this.bytes = bytes
    this.#gpu = gpu
  }

  /** The caller sees to it that no work still uses the memory. */
  protected override free(handle: DevicePointer): void {
    this.#gpu.makeCurrent().cuMemFree_v2(handle)
  }
}
