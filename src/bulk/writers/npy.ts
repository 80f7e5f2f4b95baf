import type { VectorRecord, VectorWriter, WriterOptions } from '../vectors.ts'
import { PartialFile } from './partial-file.ts'

/** Fixed, so that the number of rows can be put in at the end. */
const headerBytes = 128

/** NumPy's format 1.0: float32 [records, dimensions]. With ids, texts or gaps, `<name>.ids.jsonl` has a line a row: {"index", "id"?, "text"?}.
 * @see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
export async function createNpyWriter(options: WriterOptions): Promise<VectorWriter> {
  const { path, dimensions, withIds, withTexts, withGaps, checkpoint } = options
  const file = await PartialFile.open(path, checkpoint?.bytes)
  const withSidecar = withIds || withTexts || withGaps
  const ids = withSidecar ? await PartialFile.open(toIdsPath(path), checkpoint?.idsBytes) : undefined
  let records = checkpoint?.records ?? 0
  if (!checkpoint) await file.append(toHeader(0, dimensions))

  const write = async (batch: readonly VectorRecord[]): Promise<void> => {
    const block = new Float32Array(batch.length * dimensions)
    let lines = ''
    for (const [row, { index, id, text, vector }] of batch.entries()) {
      block.set(vector, row * dimensions)
      const place = {
        index,
        ...(withIds ? { id: id ?? null } : {}),
        ...(withTexts ? { text: text ?? null } : {}),
      }
      if (withSidecar) lines += `${JSON.stringify(place)}\n`
    }
    await file.append(new Uint8Array(block.buffer))
    await ids?.append(Buffer.from(lines))
    records += batch.length
  }

  return {
    write,
    checkpoint: async () => {
      await file.sync()
      await ids?.sync()
      return { records, bytes: file.bytes, ...(ids ? { idsBytes: ids.bytes } : {}) }
    },
    close: async () => {
      await file.writeAt(toHeader(records, dimensions), 0)
      await ids?.finish()
      await file.finish()
    },
    discard: async () => {
      await file.discard()
      await ids?.discard()
    },
    [Symbol.asyncDispose]: async () => {
      await file.release()
      await ids?.release()
    },
  }
}

/** Where the ids of an .npy file stand. */
export function toIdsPath(path: string): string {
  return `${path.replace(/\.npy$/i, '')}.ids.jsonl`
}

function toHeader(rows: number, dimensions: number): Buffer {
  const header = Buffer.alloc(headerBytes, ' ')
  header.write('\x93NUMPY\x01\x00', 0, 'latin1')
  header.writeUInt16LE(headerBytes - 10, 8)
  header.write(`{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${dimensions}), }`, 10, 'latin1')
  header.write('\n', headerBytes - 1)
  return header
}
