import { Readable, pipeline } from 'node:stream'
import { CsvError, parse } from 'csv-parse'
import { EmbedError } from '../../errors.ts'
import type { ReaderOptions, SourceRecord } from '../corpus.ts'
import { readUtf8Chunks } from './utf8-chunks.ts'

const maxRecordBytes = 64 * 1024 * 1024

/** RFC 4180 with a header line; quoted fields may hold line ends.
 * @throws {EmbedError} FILE_FORMAT with the line */
export async function* readCsv(
  source: AsyncIterable<Uint8Array>,
  options: ReaderOptions,
): AsyncGenerator<SourceRecord> {
  const { path, textColumn, idColumn, startAt } = options
  let markBytes: number | undefined
  const chunks = async function* (): AsyncGenerator<Buffer> {
    for await (const { bytes, startBytes } of readUtf8Chunks(source, { path })) {
      markBytes ??= startBytes
      yield bytes
    }
  }
  const parser = parse({
    info: true,
    columns: false,
    relax_column_count: true,
    record_delimiter: ['\r\n', '\n'],
    max_record_size: maxRecordBytes,
  })
  // The parser is destroyed with the error and its iteration throws it: nothing to do in the callback.
  const rows: AsyncIterable<CsvRow> = pipeline(Readable.from(chunks()), parser, () => {})

  let header: readonly string[] | undefined
  let textPlace = -1
  let idPlace = -1
  let index = 0
  let line = 1
  try {
    for await (const { record, info } of rows) {
      const nextLine = info.lines + 1
      if (!header) {
        header = record
        textPlace = toColumnPlace(header, textColumn, '--text-column', path)
        if (idColumn !== undefined) idPlace = toColumnPlace(header, idColumn, '--id-column', path)
      } else {
        const blank = record.length === 1 && record[0] === ''
        if (record.length !== header.length && !blank) {
          const reason = `line ${line}: ${record.length} fields, the header has ${header.length}`
          throw new EmbedError('FILE_FORMAT', { path, reason })
        }
        if (index >= startAt) {
          const place = { index, line, endBytes: info.bytes + (markBytes ?? 0) }
          const id = idPlace < 0 || blank ? undefined : record[idPlace]
          yield {
            ...place,
            text: (blank ? null : record[textPlace]) ?? null,
            ...(id === undefined ? {} : { id }),
          }
        }
        index += 1
      }
      line = nextLine
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error
    throw new EmbedError('FILE_FORMAT', { path, reason: `line ${line}: ${error.message}` }, { cause: error })
  }
}

interface CsvRow {
  readonly record: readonly string[]
  readonly info: { readonly lines: number; readonly bytes: number }
}

function toColumnPlace(header: readonly string[], column: string, flag: string, path: string): number {
  const place = header.indexOf(column)
  if (place >= 0) return place
  const reason = `line 1: no column '${column}'; it has ${header.join(', ')}; name one with ${flag}`
  throw new EmbedError('FILE_FORMAT', { path, reason })
}
