/** The vocabulary table in host memory, for plans that take its rows instead of ids: it leaves the GPU's memory to the
 * layers. 16,384 tokens of 2,560 values are 84 MB to copy; shorter batches cost accordingly less. */
import { EmbedError } from '../../errors.ts'
import { openSafetensors } from '../../model/safetensors.ts'
import type { ModelSpec } from '../../model/spec.ts'
import type { PackedBatch } from '../engine.ts'
import type { Rectangle } from '../rectangular/padding.ts'

const tensorName = /(^|\.)(embed_tokens|word_embeddings)\.weight$/

export class EmbeddingTable {
  readonly #rows: Buffer
  readonly #rowBytes: number

  /** @param rows [vocabularySize, rowBytes] */
  constructor(rows: Uint8Array, rowBytes: number) {
    this.#rows = Buffer.from(rows.buffer, rows.byteOffset, rows.byteLength)
    this.#rowBytes = rowBytes
  }

  get bytes(): number {
    return this.#rows.length
  }

  /** Copies the rows of a rectangle's tokens to their cells in `out`; the cells of padding stay as they are. */
  gather(batch: PackedBatch, { sequences, paddedLength }: Rectangle, out: Uint8Array): void {
    const rowBytes = this.#rowBytes
    const target = Buffer.from(out.buffer, out.byteOffset, out.byteLength)
    let cell = 0
    for (const sequence of sequences) {
      const start = batch.cumulativeLengths[sequence]!
      const length = batch.cumulativeLengths[sequence + 1]! - start
      for (let i = 0; i < length; i++) {
        const from = batch.inputIds[start + i]! * rowBytes
        this.#rows.copy(target, (cell + i) * rowBytes, from, from + rowBytes)
      }
      cell += paddedLength
    }
  }
}

/** @param rowBytes that the plan takes @throws {EmbedError} ENGINE_UNAVAILABLE, MODEL_FILE_CORRUPT, FILE_UNREADABLE */
export async function loadEmbeddingTable(spec: ModelSpec, rowBytes: number): Promise<EmbeddingTable> {
  await using tensors = await openSafetensors(spec.files.weights)
  const name = tensors.names().find((each) => tensorName.test(each))
  const info = name === undefined ? undefined : tensors.tensor(name)
  const [rows, columns] = info?.shape ?? []
  if (name === undefined || info === undefined || info.byteLength !== rows! * rowBytes) {
    const found =
      info === undefined ? 'no vocabulary table' : `${name} ${info.dtype} of ${columns} values a row`
    throw new EmbedError('ENGINE_UNAVAILABLE', {
      engine: 'tensorrt',
      reason: `the plan takes rows of ${rowBytes} bytes from the vocabulary table, ${spec.folder} has ${found}`,
      fix: 'build the plan from this model, or build one that takes ids',
    })
  }
  return new EmbeddingTable(await tensors.readBytes(name), rowBytes)
}
