import { readFile, rm } from 'node:fs/promises'
import { deserialize, serialize } from 'node:v8'
import { parquetMetadata } from 'hyparquet'
import type { RowGroup, SchemaElement } from 'hyparquet'
import { ByteWriter, ParquetWriter } from 'hyparquet-writer'
import { EmbedError } from '../../errors.ts'
import type { VectorRecord, VectorWriter, WriterCheckpoint, WriterOptions } from '../vectors.ts'
import { PartialFile, replaceFile, toPartialPath } from './partial-file.ts'

// Measured at 384 dimensions: a peak of 271 MiB of memory and 9,300 rows/s; 8 MiB takes 542 MiB and is no faster.
const rowGroupBytes = 2 * 1024 * 1024
/** Short vectors may come with long texts. */
const maxRowGroupRows = 10_000

/** Columns index int64, id? and text? string, embedding list<float>. Row groups close after 2 MiB of vectors and never for a
 * checkpoint (rows of an open group wait in a tail file), so a run in pieces gives the bytes of a run in one go. */
export async function createParquetWriter(options: WriterOptions): Promise<VectorWriter> {
  const { path, dimensions, withIds, withTexts, metadata, checkpoint } = options
  const rowGroupRows = Math.min(maxRowGroupRows, Math.max(1, Math.floor(rowGroupBytes / (dimensions * 4))))
  const schema = toSchema(withIds, withTexts)
  const kvMetadata = Object.entries(metadata).map(([key, value]) => ({ key, value }))
  const createParquet = (writer: ByteWriter): ParquetWriter =>
    new ParquetWriter({ writer, schema, kvMetadata, statistics: false, createdBy: 'akidb-embedding' })

  let openRows = checkpoint ? await loadTail(path, checkpoint) : []
  if (!checkpoint) await removeTails(path)
  let tail = checkpoint?.tail ?? 0
  const file = await PartialFile.open(path, checkpoint?.bytes)
  const bytes = new ByteWriter()
  const parquet = createParquet(bytes)
  if (checkpoint?.footer === undefined) {
    await file.append(bytes.getBytes())
  } else {
    const footer = Uint8Array.from(Buffer.from(checkpoint.footer, 'base64'))
    const { row_groups: rowGroups, num_rows: rowCount } = parquetMetadata(footer.buffer)
    parquet.row_groups = rowGroups
    parquet.num_rows = rowCount
    bytes.offset = checkpoint.bytes
  }
  bytes.index = 0

  const writeGroup = async (rows: readonly VectorRecord[]): Promise<void> => {
    const plain = { encoding: 'PLAIN', codec: 'UNCOMPRESSED', offsetIndex: false } as const
    await parquet.write({
      rowGroupSize: rows.length,
      columnData: [
        { name: 'index', data: rows.map(({ index }) => BigInt(index)), ...plain },
        ...(withIds ? [{ name: 'id', data: rows.map(({ id }) => id), offsetIndex: false }] : []),
        ...(withTexts ? [{ name: 'text', data: rows.map(({ text }) => text), offsetIndex: false }] : []),
        { name: 'embedding', data: rows.map(({ vector }) => Array.from(vector)), ...plain },
      ],
    })
    await file.append(bytes.getBytes())
    bytes.index = 0
  }

  const toFooter = (rowGroups: RowGroup[], rowCount: bigint): string => {
    const footer = new ByteWriter()
    const snapshot = createParquet(footer)
    snapshot.row_groups = rowGroups
    snapshot.num_rows = rowCount
    void snapshot.finish()
    return Buffer.from(footer.getBytes()).toString('base64')
  }

  return {
    write: async (batch) => {
      openRows.push(...batch)
      while (openRows.length >= rowGroupRows) {
        await writeGroup(openRows.slice(0, rowGroupRows))
        openRows = openRows.slice(rowGroupRows)
      }
    },
    checkpoint: async () => {
      await file.sync()
      // Two names by turns: the checkpoint before this one still refers to the other.
      const nextTail = 1 - tail
      const packed = openRows.map((row) => ({ ...row, vector: Float32Array.from(row.vector) }))
      await replaceFile(toTailPath(path, nextTail), serialize(packed))
      tail = nextTail
      return {
        records: Number(parquet.num_rows) + openRows.length,
        bytes: file.bytes,
        footer: toFooter(parquet.row_groups, parquet.num_rows),
        tail,
      }
    },
    close: async () => {
      if (openRows.length > 0) await writeGroup(openRows)
      openRows = []
      await parquet.finish()
      await file.append(bytes.getBytes())
      await file.finish()
      await removeTails(path)
    },
    discard: async () => {
      await file.discard()
      await removeTails(path)
    },
    [Symbol.asyncDispose]: () => file.release(),
  }
}

async function loadTail(path: string, checkpoint: WriterCheckpoint): Promise<VectorRecord[]> {
  const tailPath = toTailPath(path, checkpoint.tail ?? 0)
  try {
    // Written by serialize() above, from VectorRecord[].
    const rows: VectorRecord[] = deserialize(await readFile(tailPath))
    return rows
  } catch (error) {
    const differences = ['it is gone or damaged']
    throw new EmbedError('CHECKPOINT_MISMATCH', { path: tailPath, differences }, { cause: error })
  }
}

async function removeTails(path: string): Promise<void> {
  for (const tail of [toTailPath(path, 0), toTailPath(path, 1)]) {
    await rm(tail, { force: true })
    await rm(toPartialPath(tail), { force: true })
  }
}

function toTailPath(path: string, tail: number): string {
  return `${path}.tail-${tail}`
}

function toTextColumn(name: string): SchemaElement {
  return {
    name,
    type: 'BYTE_ARRAY',
    converted_type: 'UTF8',
    logical_type: { type: 'STRING' },
    repetition_type: 'OPTIONAL',
  }
}

function toSchema(withIds: boolean, withTexts: boolean): SchemaElement[] {
  return [
    { name: 'root', num_children: 2 + Number(withIds) + Number(withTexts) },
    { name: 'index', type: 'INT64', repetition_type: 'REQUIRED' },
    ...(withIds ? [toTextColumn('id')] : []),
    ...(withTexts ? [toTextColumn('text')] : []),
    {
      name: 'embedding',
      repetition_type: 'REQUIRED',
      num_children: 1,
      converted_type: 'LIST',
      logical_type: { type: 'LIST' },
    },
    { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
    { name: 'element', type: 'FLOAT', repetition_type: 'REQUIRED' },
  ]
}
