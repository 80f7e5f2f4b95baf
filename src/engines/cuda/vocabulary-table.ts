/** A decoder's vocabulary stays in the CPU's memory: a fifth of a 4B model's bytes at FP8, of which a batch needs a few rows.
 * The GPU reads them over PCIe, as fast as from its own memory (1 x 512 tokens, 4B shape, H100: 4.63 and 4.62 ms); gathered by
 * the CPU they took a sixth of the time of 32 x 512 tokens. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import type { GpuContext } from '../../hardware/gpu/context.ts'
import { PinnedBuffer } from '../../hardware/gpu/pinned-buffer.ts'
import { convertElements } from '../../model/onnx/element-types.ts'
import type { StoredTensor } from '../../model/onnx/model-weights.ts'
import { readsAtOnce, runSideBySide } from './side-by-side.ts'

const pieceElements = 16 << 20

/** @returns bf16 of the tensor's shape, as kernels see it
 * @throws {EmbedError} GPU_OUT_OF_MEMORY, MODEL_FILE_CORRUPT, FILE_UNREADABLE */
export async function loadVocabularyTable(gpu: GpuContext, stored: StoredTensor): Promise<DevicePointer> {
  const count = stored.shape.reduce((product, size) => product * size, 1)
  const elementBytes = stored.type === 'F32' ? 4 : 2
  const pinned = new PinnedBuffer(gpu, 'vocabulary table', count * 2, { isMapped: true })
  const table = new Uint16Array(pinned.memory, 0, count)
  await runSideBySide(Math.ceil(count / pieceElements), readsAtOnce, async (piece) => {
    const begin = piece * pieceElements
    const end = Math.min(count, begin + pieceElements)
    if (stored.type === 'BF16') {
      await stored.readInto(pinned.uint8((end - begin) * 2, begin * 2), begin * 2)
      return
    }
    const bytes = await stored.read(begin * elementBytes, end * elementBytes)
    table.set(convertElements(bytes, stored.type, 'bfloat16'), begin)
  })
  return pinned.devicePointer!
}
