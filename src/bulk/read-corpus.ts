import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { addAbortSignal } from 'node:stream'
import type { Readable } from 'node:stream'
import { extname } from 'node:path'
import { EmbedError, toReason } from '../errors.ts'
import { corpusFormats, toPlace } from './corpus.ts'
import type { CorpusFormat, CorpusRecord, EmptyPolicy, ReaderOptions, SourceRecord } from './corpus.ts'
import { readCsv } from './readers/csv.ts'
import { readJsonl } from './readers/jsonl.ts'
import { countParquetRows, readParquet } from './readers/parquet.ts'
import { readText } from './readers/text.ts'

/** The path that stands for standard input. */
export const stdinPath = '-'

const formatOfExtension: Readonly<Record<string, CorpusFormat>> = {
  '.txt': 'text',
  '.text': 'text',
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
  '.csv': 'csv',
  '.parquet': 'parquet',
  '.pq': 'parquet',
}

export interface ReadCorpusOptions {
  /** Default: by the extension; 'text' for stdin. */
  readonly format?: CorpusFormat
  /** Column or key of the text. Default 'text'. */
  readonly textColumn?: string
  /** Column or key of the id; no ids without it. */
  readonly idColumn?: string
  /** Index of the first record to give. Default 0. */
  readonly startAt?: number
  /** Default 'error'. */
  readonly onEmpty?: EmptyPolicy
  /** Told of every record that 'skip' leaves out. */
  readonly onSkip?: (record: SourceRecord) => void
  readonly signal?: AbortSignal
  /** What '-' reads. Default process.stdin. */
  readonly stdin?: Readable
}

/** The records of a corpus in order, as a stream: memory holds one record (parquet: one row group) at a time.
 * @param path a file, or '-' for stdin (text and jsonl)
 * @throws {EmbedError} FILE_UNREADABLE, FILE_FORMAT (with line or row and column), USAGE, on iteration */
export async function* readCorpus(
  path: string,
  options: ReadCorpusOptions = {},
): AsyncGenerator<CorpusRecord> {
  const { onEmpty = 'error', onSkip, idColumn, startAt = 0 } = options
  const format = toCorpusFormat(path, options.format)
  const readerOptions: ReaderOptions = {
    path: path === stdinPath ? 'stdin' : path,
    textColumn: options.textColumn ?? 'text',
    idColumn: format === 'text' ? undefined : idColumn,
    startAt,
  }
  for await (const record of readRecords(path, format, readerOptions, options)) {
    const { text } = record
    if (text !== null && text !== '') yield { ...record, text }
    else if (onEmpty === 'skip') onSkip?.(record)
    else {
      const reason = `${toPlace(record)} has no text; drop it, or leave such records out with --on-empty skip`
      throw new EmbedError('FILE_FORMAT', { path: readerOptions.path, reason })
    }
  }
}

export interface CorpusInfo {
  readonly format: CorpusFormat
  /** Absent for stdin. */
  readonly totalBytes?: number
  /** Absent for stdin. */
  readonly modifiedMs?: number
  /** Only where it costs nothing: parquet. */
  readonly totalRecords?: number
}

/** What can be known of a corpus before reading it.
 * @throws {EmbedError} FILE_UNREADABLE, FILE_FORMAT, USAGE */
export async function inspectCorpus(
  path: string,
  options: { format?: CorpusFormat } = {},
): Promise<CorpusInfo> {
  const format = toCorpusFormat(path, options.format)
  if (path === stdinPath) return { format }
  const { size, mtimeMs, isFolder } = await stat(path).then(
    (stats) => ({ size: stats.size, mtimeMs: stats.mtimeMs, isFolder: stats.isDirectory() }),
    (error: unknown) => {
      throw toReadError(path, error)
    },
  )
  if (isFolder) throw new EmbedError('FILE_UNREADABLE', { path, reason: 'it is a folder; give a file' })
  const measured = { format, totalBytes: size, modifiedMs: mtimeMs }
  return format === 'parquet' ? { ...measured, totalRecords: await countParquetRows(path) } : measured
}

/** The format asked for, else the one of the extension. @throws {EmbedError} FILE_FORMAT, USAGE */
export function toCorpusFormat(path: string, format: CorpusFormat | undefined): CorpusFormat {
  if (path === stdinPath) {
    if (format === undefined || format === 'text' || format === 'jsonl') return format ?? 'text'
    throw new EmbedError('USAGE', {
      reason: `stdin is read as text or jsonl, not as ${format}; write it to a file first`,
    })
  }
  const known = format ?? formatOfExtension[extname(path).toLowerCase()]
  if (known) return known
  const reason = `the extension '${extname(path)}' names no format; give --input-format ${corpusFormats.join(', ')}`
  throw new EmbedError('FILE_FORMAT', { path, reason })
}

async function* readRecords(
  path: string,
  format: CorpusFormat,
  readerOptions: ReaderOptions,
  { stdin, signal }: ReadCorpusOptions,
): AsyncGenerator<SourceRecord> {
  if (format === 'parquet') {
    for await (const record of readParquet(readerOptions)) {
      signal?.throwIfAborted()
      yield record
    }
    return
  }
  const stream =
    path === stdinPath ? (stdin ?? process.stdin) : createReadStream(path, { highWaterMark: 1 << 18 })
  if (signal) addAbortSignal(signal, stream)
  const read = format === 'text' ? readText : format === 'jsonl' ? readJsonl : readCsv
  try {
    yield* read(stream, readerOptions)
  } catch (error) {
    if (error instanceof EmbedError || signal?.aborted) throw error
    throw toReadError(readerOptions.path, error)
  }
}

function toReadError(path: string, error: unknown): EmbedError {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  const reason =
    code === 'ENOENT'
      ? 'there is no such file'
      : code === 'EISDIR'
        ? 'it is a folder; give a file'
        : toReason(error)
  return new EmbedError('FILE_UNREADABLE', { path, reason }, { cause: error })
}
