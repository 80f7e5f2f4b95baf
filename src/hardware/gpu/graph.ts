/** Work recorded once and launched as a whole: about 1 us a kernel instead of 4. */
import {
  CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
  type Cuda,
  type CudaGraph,
  type CudaGraphExec,
} from '../ffi/cuda.ts'
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
  return record(stream, enqueue, (cuda, graph) => {
    const handle = readOut<CudaGraphExec>((out) => cuda.cuGraphInstantiateWithFlags(out, graph, 0))
    return new GpuGraph(gpu, handle)
  })
}

/** Of what `enqueue` puts on `stream`: kernels, copies and memsets. @throws {EmbedError} as captureGraph */
export function countGraphNodes(stream: GpuStream, enqueue: () => void): number {
  return record(stream, enqueue, (cuda, graph) =>
    readOut<number>((out) => cuda.cuGraphGetNodes(graph, null, out)),
  )
}

function record<Result>(
  stream: GpuStream,
  enqueue: () => void,
  use: (cuda: Cuda, graph: CudaGraph) => Result,
): Result {
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
    return use(cuda, graph!)
  } finally {
    if (graph !== undefined) cuda.cuGraphDestroy(graph)
  }
}
