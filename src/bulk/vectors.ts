/** What comes out: a file of vectors, and the contract of the writers. */

export const vectorFormats = ['jsonl', 'npy', 'parquet'] as const
export type VectorFormat = (typeof vectorFormats)[number]

export interface VectorRecord {
  /** Place in the corpus. */
  readonly index: number
  readonly id?: string
  readonly text?: string
  /** f32 [dimensions]; the writer's from write() on. */
  readonly vector: Float32Array
}

/** What a writer needs, besides the files themselves, to go on after a crash; plain JSON. */
export interface WriterCheckpoint {
  readonly records: number
  /** Bytes of `<output>.partial` that hold them. */
  readonly bytes: number
  /** npy with an ids file: its bytes. */
  readonly idsBytes?: number
  /** parquet: the footer of the finished row groups in base64, and which tail file holds the rows after them. */
  readonly footer?: string
  readonly tail?: number
}

/** Appends vectors to `<path>.partial`; only close() gives the file its name. */
export interface VectorWriter extends AsyncDisposable {
  /** @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE; the writer is then of use for nothing but disposal */
  write(records: readonly VectorRecord[]): Promise<void>
  /** Resolves when everything written so far would survive a power cut. @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE */
  checkpoint(): Promise<WriterCheckpoint>
  /** Finishes the file and renames it. @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE */
  close(): Promise<void>
  /** Removes what was written. */
  discard(): Promise<void>
  /** Without close() before: leaves the partial file for a later run. */
  [Symbol.asyncDispose](): Promise<void>
}

export interface WriterOptions {
  readonly path: string
  readonly dimensions: number
  /** A column of ids. */
  readonly withIds: boolean
  /** A column of texts. */
  readonly withTexts: boolean
  /** Records may be left out, so that rows and places in the corpus differ. */
  readonly withGaps: boolean
  /** Goes into the file where its format has a place: parquet's key-value metadata. */
  readonly metadata: Readonly<Record<string, string>>
  readonly checkpoint: WriterCheckpoint | undefined
}
