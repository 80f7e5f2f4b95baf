import { float32ArrayTextMaxBytes, writeFloat32Array } from '../../float32-text.ts'
import type { VectorRecord, VectorWriter, WriterOptions } from '../vectors.ts'
import { PartialFile } from './partial-file.ts'

const blockBytes = 1 << 20
const lineEnd = Buffer.from('}\n')

/** {"index", "id"?, "text"?, "embedding"} a line; the numbers read back as the same float32. */
export async function createJsonlWriter(options: WriterOptions): Promise<VectorWriter> {
  const { path, dimensions, withIds, withTexts, checkpoint } = options
  const file = await PartialFile.open(path, checkpoint?.bytes)
  const vectorMaxBytes = float32ArrayTextMaxBytes(dimensions)
  let records = checkpoint?.records ?? 0
  let block = Buffer.allocUnsafeSlow(blockBytes + vectorMaxBytes)

  const write = async (batch: readonly VectorRecord[]): Promise<void> => {
    let at = 0
    for (const { index, id, text, vector } of batch) {
      const head = JSON.stringify({
        index,
        ...(withIds ? { id: id ?? null } : {}),
        ...(withTexts ? { text: text ?? null } : {}),
      })
      const lineMaxBytes = head.length * 3 + vectorMaxBytes + 32
      if (at + lineMaxBytes > block.length) {
        await file.append(block.subarray(0, at))
        at = 0
        if (lineMaxBytes > block.length) block = Buffer.allocUnsafeSlow(lineMaxBytes)
      }
      at += block.write(head.slice(0, -1), at)
      at += block.write(',"embedding":', at)
      at = writeFloat32Array(vector, 0, dimensions, block, at)
      at += lineEnd.copy(block, at)
    }
    await file.append(block.subarray(0, at))
    records += batch.length
  }

  return {
    write,
    checkpoint: async () => {
      await file.sync()
      return { records, bytes: file.bytes }
    },
    close: () => file.finish(),
    discard: () => file.discard(),
    [Symbol.asyncDispose]: () => file.release(),
  }
}
