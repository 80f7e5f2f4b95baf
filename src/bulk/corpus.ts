/** What goes in: a corpus is a file of texts, a record one text of it. */

export const corpusFormats = ['text', 'jsonl', 'csv', 'parquet'] as const
export type CorpusFormat = (typeof corpusFormats)[number]

export const emptyPolicies = ['error', 'skip'] as const
/** What becomes of a record without text: it stops the run, or is left out. */
export type EmptyPolicy = (typeof emptyPolicies)[number]

export interface CorpusRecord {
  /** Place in the corpus from 0: the line of a .txt or .jsonl file, the row of a .csv or .parquet file. Skipped records count. */
  readonly index: number
  readonly id?: string
  readonly text: string
  /** First line of the record in the file, from 1; absent for parquet. */
  readonly line?: number
  /** Bytes of the file up to the end of the record; absent for parquet. */
  readonly endBytes?: number
}

/** What a reader gives: the text may still be missing. */
export type SourceRecord = Omit<CorpusRecord, 'text'> & { readonly text: string | null }

export interface ReaderOptions {
  /** For messages. */
  readonly path: string
  readonly textColumn: string
  readonly idColumn: string | undefined
  /** First index to give. */
  readonly startAt: number
}

/** Where a record stands, in words: 'line 12' or 'row 12'. */
export function toPlace(record: { readonly index: number; readonly line?: number }): string {
  return record.line === undefined ? `row ${record.index}` : `line ${record.line}`
}
