/** Compiled kernels on the GPU, and their launch. */
import {
  CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
  CU_FUNC_ATTRIBUTE_NUM_REGS,
  CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
  type CudaFunction,
  type CudaModule,
} from '../ffi/cuda.ts'
import { readOut } from '../ffi/library.ts'
import { NativeResource } from '../native-resource.ts'
import type { GpuContext } from './context.ts'
import type { KernelArguments } from './kernel-arguments.ts'
import { LaunchConfig } from './launch-config.ts'
import type { GpuStream } from './stream.ts'

export class GpuModule extends NativeResource<CudaModule> {
  readonly #gpu: GpuContext
  readonly #overlapping: boolean

  /** @param image a cubin, or PTX, which the driver compiles
   * @param options.overlapping its kernels wait for the one before by themselves (PTX: griddepcontrol.wait), so that their
   *   blocks may start while that is at work; from compute capability 9.0 on. Default false
   * @throws {EmbedError} CUDA_STATUS */
  constructor(
    gpu: GpuContext,
    name: string,
    image: Uint8Array | string,
    options: { readonly overlapping?: boolean } = {},
  ) {
    const cuda = gpu.makeCurrent()
    const bytes = typeof image === 'string' ? Buffer.from(`${image}\0`) : image
    super(
      `the module '${name}'`,
      readOut<CudaModule>((out) => cuda.cuModuleLoadData(out, bytes)),
      gpu.children,
    )
    this.#gpu = gpu
    this.#overlapping = options.overlapping ?? false
  }

  /** @throws {EmbedError} CUDA_STATUS when the module has no such kernel */
  kernel(name: string): GpuKernel {
    const cuda = this.#gpu.makeCurrent()
    const fn = readOut<CudaFunction>((out) => cuda.cuModuleGetFunction(out, this.handle, name))
    return new GpuKernel(this.#gpu, { name, fn, module: this, overlapping: this.#overlapping })
  }

  protected override free(handle: CudaModule): void {
    this.#gpu.makeCurrent().cuModuleUnload(handle)
  }
}

export interface LaunchShape {
  /** Blocks, in x, y, z. */
  readonly grid: readonly [x: number, y?: number, z?: number]
  /** Threads of a block. */
  readonly block: readonly [x: number, y?: number, z?: number]
  /** Dynamic shared memory of a block. Default 0. */
  readonly sharedBytes?: number
}

/** Freed with its module. */
export class GpuKernel extends NativeResource<CudaFunction> {
  readonly #gpu: GpuContext
  readonly #config: LaunchConfig | undefined

  constructor(
    gpu: GpuContext,
    kernel: {
      readonly name: string
      readonly fn: CudaFunction
      readonly module: GpuModule
      readonly overlapping: boolean
    },
  ) {
    super(`the kernel '${kernel.name}'`, kernel.fn, kernel.module.children)
    this.#gpu = gpu
    this.#config = kernel.overlapping ? new LaunchConfig() : undefined
  }

  /** What the compiler made of it; local memory is where spilled registers go. */
  get usage(): { registers: number; sharedBytes: number; localBytes: number } {
    return {
      registers: this.#attribute(CU_FUNC_ATTRIBUTE_NUM_REGS),
      sharedBytes: this.#attribute(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES),
      localBytes: this.#attribute(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES),
    }
  }

  /** More than 48 KiB of dynamic shared memory has to be allowed once. */
  allowSharedBytes(bytes: number): void {
    const attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    this.#gpu.makeCurrent().cuFuncSetAttribute(this.handle, attribute, bytes)
  }

  /** Enqueues a launch; the values of `args` are read before it returns. */
  launch(stream: GpuStream, shape: LaunchShape, args: KernelArguments): void {
    const { grid, block, sharedBytes = 0 } = shape
    const [gridX, gridY = 1, gridZ = 1] = grid
    const [blockX, blockY = 1, blockZ = 1] = block
    const cuda = this.#gpu.makeCurrent()
    if (this.#config !== undefined) {
      const config = this.#config.set({
        grid: [gridX, gridY, gridZ],
        block: [blockX, blockY, blockZ],
        sharedBytes,
        stream: stream.handle,
      })
      cuda.cuLaunchKernelEx(config.bytes, this.handle, args.addresses, null)
      return
    }
    cuda.cuLaunchKernel(
      this.handle,
      gridX,
      gridY,
      gridZ,
      blockX,
      blockY,
      blockZ,
      sharedBytes,
      stream.handle,
      args.addresses,
      null,
    )
  }

  protected override free(): void {
    // Goes with its module.
  }

  #attribute(attribute: number): number {
    const cuda = this.#gpu.makeCurrent()
    return readOut<number>((out) => cuda.cuFuncGetAttribute(out, attribute, this.handle))
  }
}
