/** The GPU of this process: its primary context, which CUDA's own libraries and TensorRT share. */
import { CU_LIMIT_STACK_SIZE, type Cuda, type CudaContext, type CudaDevice } from '../ffi/cuda.ts'
import { readOutAsync } from '../ffi/library.ts'
import { NativeResource } from '../native-resource.ts'
import { ResourceScope } from '../resource-scope.ts'
import { CompletionPoller } from './completion-poller.ts'
import { findDevice, type GpuDevice, readDevice, startCuda } from './device.ts'

/** Everything on the GPU belongs to one; freeing it frees what is still alive, in reverse order of creation.
 *
 * CUDA's current context belongs to a thread: all work is enqueued on the thread that opened the GPU, and every
 * owner makes the context current before it calls, so several GPUs can be used side by side. */
export class GpuContext extends NativeResource<CudaContext> {
  readonly cuda: Cuda
  readonly device: GpuDevice
  readonly completion: CompletionPoller
  readonly #cudaDevice: CudaDevice

  constructor(
    cuda: Cuda,
    cudaDevice: CudaDevice,
    handle: CudaContext,
    options: { readonly device: GpuDevice; readonly completion: CompletionPoller },
  ) {
    super(`GPU ${options.device.ordinal}`, handle, new ResourceScope())
    this.cuda = cuda
    this.device = options.device
    this.completion = options.completion
    this.#cudaDevice = cudaDevice
  }

  /** For calls that need the current context. @throws {EmbedError} USED_AFTER_FREE */
  makeCurrent(): Cuda {
    this.cuda.cuCtxSetCurrent(this.handle)
    return this.cuda
  }

  readMemory(): { freeBytes: number; totalBytes: number } {
    const cuda = this.makeCurrent()
    const [free, total]: [[number | null], [number | null]] = [[null], [null]]
    cuda.cuMemGetInfo_v2(free, total)
    return { freeBytes: free[0]!, totalBytes: total[0]! }
  }

  /** CUDA keeps 1,024 bytes for each thread that the GPU can hold; a kernel that needs more than the limit gets it all the
   * same. */
  limitStack(bytes: number): void {
    this.makeCurrent().cuCtxSetLimit(CU_LIMIT_STACK_SIZE, bytes)
  }

  /** Waits for the work under way, since it uses what is freed then. Blocks the event loop meanwhile. */
  override [Symbol.dispose](): void {
    if (this.isFreed) return
    try {
      this.makeCurrent().cuCtxSynchronize()
    } finally {
      super[Symbol.dispose]()
    }
  }

  protected override free(): void {
    this.cuda.cuCtxSetCurrent(null)
    this.cuda.cuDevicePrimaryCtxRelease_v2(this.#cudaDevice)
  }
}

export interface OpenGpuOptions {
  /** As CUDA counts them, CUDA_VISIBLE_DEVICES applied. Default 0. */
  readonly ordinal?: number
  readonly completion?: CompletionPoller
}

/** Starts CUDA and makes a GPU's context current on this thread. Takes part of a second, off the event loop.
 * @throws {EmbedError} GPU_UNAVAILABLE, CUDA_STATUS */
export async function openGpu(cuda: Cuda, options: OpenGpuOptions = {}): Promise<GpuContext> {
  const { ordinal = 0, completion = new CompletionPoller() } = options
  await startCuda(cuda)
  const cudaDevice = findDevice(cuda, ordinal)
  const device = readDevice(cuda, ordinal)
  const handle = await readOutAsync<CudaContext>((out) =>
    cuda.cuDevicePrimaryCtxRetain.async(out, cudaDevice),
  )
  const gpu = new GpuContext(cuda, cudaDevice, handle, { device, completion })
  gpu.makeCurrent()
  return gpu
}
