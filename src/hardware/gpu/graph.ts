/** Work recorded once and launched as a whole: about 1 us a kernel instead of 4. */
import { CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, type CudaGraph, type CudaGraphExec } from '../ffi/cuda.ts'
import { readOut } from '../ffi/library.ts'
import { NativeResource } from '../native-resource.ts'
import type { GpuContext } from './context.ts'
import type { GpuStream } from './stream.ts'

/** What it reads and writes are addresses: the buffers recorded must outlive it. */
export class GpuGraph extends NativeResource<CudaGraphExec> {
  readonly #gpu: GpuContext

  constructor(gpu: GpuContext, handle: CudaGraphExec) {
    super('a CUDA graph', handle, gpu.children)
    this.#gpu = gpu
  }

  /** Enqueues the whole on `stream`. */
  launch(stream: GpuStream): void {
    this.#gpu.makeCurrent().cuGraphLaunch(this.handle, stream.handle)
  }

  protected override free(handle: CudaGraphExec): void {
    this.#gpu.makeCurrent().cuGraphExecDestroy(handle)
  }
}

/** Records what `enqueue` puts on `stream`, without running it, and on streams joined to it by events.
 * @throws {EmbedError} CUDA_STATUS, or what `enqueue` throws; the stream is usable again either way */
export function captureGraph(stream: GpuStream, enqueue: () => void): GpuGraph {
  const { gpu } = stream
  const cuda = gpu.makeCurrent()
  cuda.cuStreamBeginCapture_v2(stream.handle, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
  let graph: CudaGraph | undefined
  try {
    try {
      enqueue()
    } finally {
      gpu.makeCurrent()
      graph = readOut<CudaGraph | null>((out) => cuda.cuStreamEndCapture(stream.handle, out)) ?? undefined
    }
    const recorded = graph!
    return new GpuGraph(
      gpu,
      readOut<CudaGraphExec>((out) => cuda.cuGraphInstantiateWithFlags(out, recorded, 0)),
    )
  } finally {
    if (graph !== undefined) cuda.cuGraphDestroy(graph)
  }
}
