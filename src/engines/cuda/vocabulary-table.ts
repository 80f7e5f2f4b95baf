/** A decoder's vocabulary stays in the CPU's memory: a fifth of a 4B model's bytes at FP8, of which a batch needs a few rows.
 * The GPU reads them over PCIe: gathered by the CPU they took a sixth of the time of 32 x 512 tokens. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import { PinnedBuffer } from '../../hardware/gpu/pinned-buffer.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import { convertElements } from '../../model/onnx/element-types.ts'
import type { StoredTensor } from '../../model/onnx/model-weights.ts'
import { runSideBySide } from './side-by-side.ts'

/** Read at once, as many as libuv has threads: one by one they are bound by a single core. */
const pieceElements = 16 << 20
const piecesAtOnce = 4

/** Where it lies: in the CPU's memory, which kernels read over PCIe, or in the GPU's. */
export type VocabularyPlace = 'host' | 'gpu'

/** @returns bf16 of the tensor's shape, as kernels see it
 * @throws {EmbedError} GPU_OUT_OF_MEMORY, MODEL_FILE_CORRUPT, FILE_UNREADABLE */
export async function loadVocabularyTable(
  stream: GpuStream,
  stored: StoredTensor,
  place: VocabularyPlace,
): Promise<DevicePointer> {
  const { gpu } = stream
  const count = stored.shape.reduce((product, size) => product * size, 1)
  const elementBytes = stored.type === 'F32' ? 4 : 2
  const eachPiece = async (use: (values: Uint16Array, begin: number) => Promise<void>) =>
    runSideBySide(Math.ceil(count / pieceElements), piecesAtOnce, async (piece) => {
      const begin = piece * pieceElements
      const end = Math.min(count, begin + pieceElements)
      const bytes = await stored.read(begin * elementBytes, end * elementBytes)
      await use(convertElements(bytes, stored.type, 'bfloat16') as Uint16Array, begin)
    })
  if (place === 'host') {
    const pinned = new PinnedBuffer(gpu, 'vocabulary table', count * 2, { isMapped: true })
    const table = new Uint16Array(pinned.memory, 0, count)
    await eachPiece(async (values, begin) => table.set(values, begin))
    return pinned.devicePointer!
  }
  const table = new DeviceBuffer(gpu, 'vocabulary table', count * 2)
  await eachPiece(async (values, begin) => {
    using pinned = new PinnedBuffer(gpu, 'a piece of the vocabulary table', values.byteLength)
    new Uint16Array(pinned.memory, 0, values.length).set(values)
    stream.copy(table, pinned, { bytes: values.byteLength, toByte: begin * 2 })
    await stream.idle()
  })
  return table.handle
}
