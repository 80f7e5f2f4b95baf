import { extname } from 'node:path'
import { EmbedError } from '../errors.ts'
import { vectorFormats } from './vectors.ts'
import type { VectorFormat, VectorWriter, WriterCheckpoint } from './vectors.ts'
import { createJsonlWriter } from './writers/jsonl.ts'
import { createNpyWriter } from './writers/npy.ts'
import { createParquetWriter } from './writers/parquet.ts'

const formatOfExtension: Readonly<Record<string, VectorFormat>> = {
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
  '.npy': 'npy',
  '.parquet': 'parquet',
  '.pq': 'parquet',
}

const createWriter = { jsonl: createJsonlWriter, npy: createNpyWriter, parquet: createParquetWriter }

export interface OpenVectorWriterOptions {
  /** Default: by the extension. */
  readonly format?: VectorFormat
  /** Length of every vector. */
  readonly dimensions: number
  /** Where the vectors come from; kept by parquet, the other formats have no place for it. */
  readonly metadata?: Readonly<Record<string, string>>
  /** Default false. */
  readonly withIds?: boolean
  /** Default false. */
  readonly withTexts?: boolean
  /** Records may be left out: .npy then keeps the places in the corpus beside the vectors. Default false. */
  readonly withGaps?: boolean
  /** Goes on with the partial file of an earlier run; without it a new one is begun. */
  readonly checkpoint?: WriterCheckpoint
}

/** Opens `<path>.partial` for vectors; close() makes it `<path>`.
 * @throws {EmbedError} FILE_FORMAT, FILE_UNWRITABLE, NO_SPACE, CHECKPOINT_MISMATCH when the partial file is not the checkpoint's */
export async function openVectorWriter(
  path: string,
  options: OpenVectorWriterOptions,
): Promise<VectorWriter> {
  const {
    dimensions,
    metadata = {},
    withIds = false,
    withTexts = false,
    withGaps = false,
    checkpoint,
  } = options
  const writerOptions = { path, dimensions, metadata, withIds, withTexts, withGaps, checkpoint }
  return createWriter[toVectorFormat(path, options.format)](writerOptions)
}

/** The format asked for, else the one of the extension. @throws {EmbedError} FILE_FORMAT */
export function toVectorFormat(path: string, format: VectorFormat | undefined): VectorFormat {
  const known = format ?? formatOfExtension[extname(path).toLowerCase()]
  if (known) return known
  const reason = `the extension '${extname(path)}' names no format of vectors; use .${vectorFormats.join(', .')}, or give --output-format`
  throw new EmbedError('FILE_FORMAT', { path, reason })
}
