import { hash } from 'node:crypto'
import type { Readable } from 'node:stream'
import { EmbedError } from '../errors.ts'
import type { Checkpoint } from './checkpoint.ts'
import type { CorpusFormat, CorpusRecord, EmptyPolicy } from './corpus.ts'
import { readCorpus, stdinPath } from './read-corpus.ts'

export interface TextBatch {
  /** At least one. */
  readonly records: readonly CorpusRecord[]
  /** Records left out up to the last one of the batch. */
  readonly skipped: number
  /** Bytes of the input up to the end of the batch; 0 where they are not known. */
  readonly endBytes: number
  /** Stands for all texts up to the end of the batch. */
  readonly digest: string
}

export interface BatchSource {
  /** To be iterated once. @throws {EmbedError} as readCorpus, and CHECKPOINT_MISMATCH when the texts are not those that were done */
  batches(): AsyncGenerator<TextBatch>
  /** Records left out so far, those of an earlier run included. */
  skipped(): number
}

export interface BatchSourceOptions {
  readonly input: string
  readonly format: CorpusFormat
  readonly batchSize: number
  /** The run to go on with. */
  readonly earlier: Checkpoint | undefined
  /** The input may have changed since: read it from its start and compare it with what was done. */
  readonly compare: boolean
  readonly textColumn?: string
  readonly idColumn?: string
  readonly onEmpty?: EmptyPolicy
  readonly signal?: AbortSignal
  readonly stdin?: Readable
}

/** The records of a corpus in batches, from where an earlier run stopped. */
export function createBatchSource(options: BatchSourceOptions): BatchSource {
  const { input, batchSize, earlier } = options
  const compare = options.compare && earlier !== undefined
  const nextIndex = earlier?.nextIndex ?? 0
  let skipped = compare ? 0 : (earlier?.skipped ?? 0)
  let digest = compare ? '' : (earlier?.textsDigest ?? '')

  const checkEarlier = (): void => {
    if (digest === earlier?.textsDigest) return
    const path = input === stdinPath ? 'stdin' : input
    const differences = [`its texts up to record ${nextIndex} are not those that were embedded`]
    throw new EmbedError('CHECKPOINT_MISMATCH', { path, differences })
  }

  const batches = async function* (): AsyncGenerator<TextBatch> {
    let records: CorpusRecord[] = []
    let unchecked = compare
    let skippedBefore = skipped
    const toBatch = (): TextBatch => {
      return { records, skipped: skippedBefore, endBytes: records.at(-1)?.endBytes ?? 0, digest }
    }
    const readOptions = {
      ...options,
      startAt: compare ? 0 : nextIndex,
      onSkip: () => {
        skipped += 1
      },
    }
    for await (const record of readCorpus(input, readOptions)) {
      if (unchecked && record.index >= nextIndex) {
        checkEarlier()
        unchecked = false
      }
      // A chain, so that it can be taken up where a checkpoint left it.
      digest = hash('sha256', `${digest}${record.index}:${record.text}`)
      skippedBefore = skipped
      if (record.index < nextIndex) continue
      records.push(record)
      if (records.length < batchSize) continue
      yield toBatch()
      records = []
    }
    if (unchecked) checkEarlier()
    if (records.length > 0) yield toBatch()
  }
  return { batches, skipped: () => skipped }
}
