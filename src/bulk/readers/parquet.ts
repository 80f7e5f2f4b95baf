import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet'
import type { FileMetaData, SchemaTree } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { EmbedError, toReason } from '../../errors.ts'
import type { ReaderOptions, SourceRecord } from '../corpus.ts'

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Rows of the file, from its footer alone. @throws {EmbedError} FILE_FORMAT, FILE_UNREADABLE */
export async function countParquetRows(path: string): Promise<number> {
  const { metadata } = await openParquet(path)
  return Number(metadata.num_rows)
}

/** One row group in memory at a time, and of it the named columns only; a null is a record without text.
 * @throws {EmbedError} FILE_FORMAT with the row, FILE_UNREADABLE */
export async function* readParquet(options: ReaderOptions): AsyncGenerator<SourceRecord> {
  const { path, textColumn, idColumn, startAt } = options
  const { file, metadata } = await openParquet(path)
  const columns = parquetSchema(metadata).children
  checkTextColumn(columns, textColumn, path)
  if (idColumn !== undefined) findColumn(columns, idColumn, '--id-column', path)
  const names = idColumn === undefined || idColumn === textColumn ? [textColumn] : [textColumn, idColumn]

  let groupStart = 0
  for (const group of metadata.row_groups) {
    const groupEnd = groupStart + Number(group.num_rows)
    if (groupEnd > startAt) {
      const rowStart = Math.max(groupStart, startAt)
      let rows: Record<string, unknown>[]
      try {
        rows = await parquetReadObjects({
          file,
          metadata,
          columns: names,
          rowStart,
          rowEnd: groupEnd,
          compressors,
          parsers: { stringFromBytes: toStrictString },
        })
      } catch (error) {
        const reason = `rows ${groupStart} to ${groupEnd - 1}: ${toReason(error)}`
        throw new EmbedError('FILE_FORMAT', { path, reason }, { cause: error })
      }
      for (const [place, row] of rows.entries()) yield toRecord(row, rowStart + place, options)
    }
    groupStart = groupEnd
  }
}

function toRecord(row: Record<string, unknown>, index: number, options: ReaderOptions): SourceRecord {
  const { path, textColumn, idColumn } = options
  const text = row[textColumn] ?? null
  if (text !== null && typeof text !== 'string') {
    throw new EmbedError('FILE_FORMAT', { path, reason: `row ${index}: '${textColumn}' is not valid UTF-8` })
  }
  if (idColumn === undefined) return { index, text }
  const id = row[idColumn]
  if (typeof id !== 'string' && typeof id !== 'number' && typeof id !== 'bigint') {
    const reason = `row ${index}: '${idColumn}' is ${id === null || id === undefined ? 'null' : 'no string or number'}, wanted an id`
    throw new EmbedError('FILE_FORMAT', { path, reason })
  }
  return { index, text, id: String(id) }
}

async function openParquet(
  path: string,
): Promise<{ file: Awaited<ReturnType<typeof asyncBufferFromFile>>; metadata: FileMetaData }> {
  let file: Awaited<ReturnType<typeof asyncBufferFromFile>>
  try {
    file = await asyncBufferFromFile(path)
  } catch (error) {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(error) }, { cause: error })
  }
  try {
    return { file, metadata: await parquetMetadataAsync(file) }
  } catch (error) {
    throw new EmbedError(
      'FILE_FORMAT',
      { path, reason: `not a parquet file: ${toReason(error)}` },
      { cause: error },
    )
  }
}

function findColumn(columns: readonly SchemaTree[], name: string, flag: string, path: string): SchemaTree {
  const column = columns.find(({ element }) => element.name === name)
  if (column) return column
  const known = columns.map(({ element }) => element.name).join(', ') || 'none'
  throw new EmbedError('FILE_FORMAT', {
    path,
    reason: `no column '${name}'; it has ${known}; name one with ${flag}`,
  })
}

function checkTextColumn(columns: readonly SchemaTree[], name: string, path: string): void {
  const { element, children } = findColumn(columns, name, '--text-column', path)
  const { type, converted_type: convertedType, logical_type: logicalType } = element
  const kind = logicalType?.type ?? convertedType ?? type ?? 'a group'
  const isText = kind === 'STRING' || kind === 'UTF8' || kind === 'ENUM' || kind === 'BYTE_ARRAY'
  if (children.length === 0 && type === 'BYTE_ARRAY' && isText) return
  throw new EmbedError('FILE_FORMAT', { path, reason: `the column '${name}' holds ${kind}, wanted strings` })
}

/** The bytes themselves where they are no UTF-8, so that the row can be named. */
function toStrictString(bytes: Uint8Array | undefined): unknown {
  if (bytes === undefined) return undefined
  try {
    return strictUtf8.decode(bytes)
  } catch {
    return bytes
  }
}
