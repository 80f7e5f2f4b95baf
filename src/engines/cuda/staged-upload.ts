/** Tensors on their way from the disk to the GPU, some pieces at once through page-locked memory that is used again and again. One
 * after the other, each read into memory of its own, the 7.2 GB of a 4B model's matrices took 6.6 s from the page cache. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import { PinnedBuffer } from '../../hardware/gpu/pinned-buffer.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { StoredTensor } from '../../model/onnx/model-weights.ts'
import { readsAtOnce, runSideBySide } from './side-by-side.ts'

const pieceBytes = 8 << 20

export class StagedUpload implements Disposable {
  readonly #stream: GpuStream
  readonly #pieceBytes: number
  readonly #buffers: PinnedBuffer[] = []

  /** @param options.pieceBytes default 8 MiB */
  constructor(stream: GpuStream, options: { readonly pieceBytes?: number } = {}) {
    this.#stream = stream
    this.#pieceBytes = options.pieceBytes ?? pieceBytes
  }

  /** The tensors as they are stored, end to end; they are there when it settles.
   * @throws {EmbedError} GPU_OUT_OF_MEMORY, CUDA_STATUS, MODEL_FILE_CORRUPT, FILE_UNREADABLE */
  async copy(to: DevicePointer, tensors: readonly StoredTensor[]): Promise<void> {
    const { gpu } = this.#stream
    const pieces = listPieces(tensors, this.#pieceBytes)
    await runSideBySide(pieces.length, readsAtOnce, async (task, place) => {
      const { tensor, begin, bytes, toByte } = pieces[task]!
      const pinned = (this.#buffers[place] ??= new PinnedBuffer(
        gpu,
        'weights on their way',
        this.#pieceBytes,
      ))
      await tensor.readInto(pinned.uint8(bytes), begin)
      const target = (to + BigInt(toByte)) as DevicePointer
      gpu.makeCurrent().cuMemcpyHtoDAsync_v2(target, pinned.handle, bytes, this.#stream.handle)
      await this.#stream.idle()
    })
  }

  [Symbol.dispose](): void {
    for (const pinned of this.#buffers) pinned[Symbol.dispose]()
  }
}

interface Piece {
  readonly tensor: StoredTensor
  readonly begin: number
  readonly bytes: number
  readonly toByte: number
}

function listPieces(tensors: readonly StoredTensor[], mostBytes: number): Piece[] {
  let tensorAt = 0
  return tensors.flatMap((tensor) => {
    const at = tensorAt
    tensorAt += tensor.byteLength
    return Array.from({ length: Math.ceil(tensor.byteLength / mostBytes) }, (_, i) => {
      const begin = i * mostBytes
      return { tensor, begin, bytes: Math.min(mostBytes, tensor.byteLength - begin), toByte: at + begin }
    })
  })
}
