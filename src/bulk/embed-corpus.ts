import { resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { isDeepStrictEqual } from 'node:util'
import { EmbedError } from '../errors.ts'
import { createBatchSource } from './batch-source.ts'
import type { TextBatch } from './batch-source.ts'
import { loadCheckpoint, removeCheckpoint, saveCheckpoint, toCheckpointPath } from './checkpoint.ts'
import type { Checkpoint, RunIdentity } from './checkpoint.ts'
import { toPlace } from './corpus.ts'
import type { CorpusFormat, EmptyPolicy } from './corpus.ts'
import { toBulkProgress } from './progress.ts'
import type { BulkCounters, BulkProgress } from './progress.ts'
import { inspectCorpus, stdinPath } from './read-corpus.ts'
import type { CorpusInfo } from './read-corpus.ts'
import type { VectorFormat } from './vectors.ts'
import { openVectorWriter, toVectorFormat } from './write-vectors.ts'

export interface EmbeddedTexts {
  /** One a text, in order, f32 [dimensions]; embed() gives them away. */
  readonly vectors: readonly Float32Array[]
  readonly tokens: number
  /** Texts that were cut to the model's length. */
  readonly truncated: number
}

export interface EmbedCorpusOptions {
  /** A file, or '-' for stdin. */
  readonly input: string
  readonly output: string
  readonly embed: (texts: readonly string[], signal: AbortSignal) => Promise<EmbeddedTexts>
  readonly dimensions: number
  /** ModelSpec.contentHash: only a run with the same model is gone on with. */
  readonly modelHash: string
  /** What else decides the vectors (prompt, normalisation, truncation, precision), by the names the user knows. */
  readonly identity?: RunIdentity
  /** Goes into the output where its format has a place for it. */
  readonly metadata?: Readonly<Record<string, string>>
  readonly inputFormat?: CorpusFormat
  readonly outputFormat?: VectorFormat
  readonly textColumn?: string
  readonly idColumn?: string
  readonly onEmpty?: EmptyPolicy
  /** Put the texts beside the vectors. Default false. */
  readonly withTexts?: boolean
  /** Texts a call of embed. Default 256. */
  readonly batchSize?: number
  /** Calls in flight. Default 2. */
  readonly concurrency?: number
  /** Go on with an earlier run of the same input, model and options where there is one. */
  readonly resume: boolean
  readonly onProgress?: (progress: BulkProgress) => void
  /** Least time between two calls of onProgress. Default 200. */
  readonly progressIntervalMs?: number
  /** Least time between two checkpoints: what a crash loses. Default 5000. */
  readonly checkpointIntervalMs?: number
  readonly signal?: AbortSignal
  /** What '-' reads. Default process.stdin. */
  readonly stdin?: Readable
  /** Monotonic clock. Default performance.now. */
  readonly nowMs?: () => number
}

export interface EmbedCorpusResult extends BulkProgress {
  /** Records that an earlier run had done. */
  readonly resumedRecords: number
}

/** Embeds a corpus into a file of vectors, in order, with at most `concurrency` batches in memory. Stopped by the signal, a
 * failing record or a crash it leaves `<output>.partial` and `<output>.progress.json`, from which the same call goes on. An
 * input that changed since (and stdin) is read from its start and must have the same texts up to there, so a bad line can
 * be repaired. Calls of embed() in flight are waited for.
 * @throws {EmbedError} EMBEDDING_INTERRUPTED on abort, RECORD_FAILED when embed() rejects, CHECKPOINT_MISMATCH, FILE_FORMAT,
 * FILE_UNREADABLE, FILE_UNWRITABLE, NO_SPACE, USAGE */
export async function embedCorpus(options: EmbedCorpusOptions): Promise<EmbedCorpusResult> {
  const { input, output, dimensions, onProgress } = options
  const { batchSize = 256, concurrency = 2, checkpointIntervalMs = 5000, progressIntervalMs = 200 } = options
  const nowMs = options.nowMs ?? (() => performance.now())
  const startMs = nowMs()
  if (input !== stdinPath && resolve(input) === resolve(output)) {
    throw new EmbedError('USAGE', { reason: `${input} is both input and output; give another output` })
  }
  const info = await inspectCorpus(input, options.inputFormat ? { format: options.inputFormat } : {})
  const outputFormat = toVectorFormat(output, options.outputFormat)
  const identity = toIdentity(options, info, outputFormat)
  const checkpointPath = toCheckpointPath(output)
  const earlier = options.resume ? await loadCheckpoint(checkpointPath, identity) : undefined
  if (!earlier) await removeCheckpoint(checkpointPath)

  await using writer = await openVectorWriter(output, {
    format: outputFormat,
    dimensions,
    metadata: options.metadata ?? {},
    withIds: options.idColumn !== undefined && info.format !== 'text',
    withTexts: options.withTexts ?? false,
    withGaps: options.onEmpty === 'skip',
    ...(earlier ? { checkpoint: earlier.writer } : {}),
  })
  const start: BulkCounters = {
    records: earlier?.writer.records ?? 0,
    tokens: earlier?.tokens ?? 0,
    truncated: earlier?.truncated ?? 0,
    skipped: earlier?.skipped ?? 0,
    position: earlier?.nextIndex ?? 0,
    inputBytes: earlier?.inputBytes ?? 0,
  }
  const inputFile = toInputFile(info)
  const compare = !inputFile || !isDeepStrictEqual(inputFile, earlier?.inputFile)
  const source = createBatchSource({ ...options, batchSize, format: info.format, earlier, compare })
  const failure = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, failure.signal]) : failure.signal
  const inFlight: { readonly batch: TextBatch; readonly embedded: Promise<EmbeddedTexts> }[] = []
  let now = start
  let textsDigest = earlier?.textsDigest ?? ''
  let outputFailed = false
  let checkpointMs = startMs
  let progressMs = -Infinity

  const toProgress = (): BulkProgress => {
    const { totalRecords, totalBytes } = info
    return toBulkProgress({ start, now, elapsedMs: nowMs() - startMs, totalRecords, totalBytes })
  }

  const save = async (): Promise<void> => {
    const { position: nextIndex, inputBytes, tokens, truncated, skipped } = now
    const counts = { nextIndex, inputBytes, tokens, truncated, skipped }
    const durable = await writer.checkpoint()
    await saveCheckpoint(checkpointPath, { identity, ...counts, textsDigest, inputFile, writer: durable })
    checkpointMs = nowMs()
  }

  /** Waits for the oldest call and writes its vectors. */
  const writeOldest = async (): Promise<void> => {
    const oldest = inFlight[0]!
    const { records, skipped, endBytes, digest } = oldest.batch
    const { vectors, tokens, truncated } = await oldest.embedded
    checkVectors(vectors, records.length, dimensions)
    inFlight.shift()
    try {
      await writer.write(records.map((record, place) => ({ ...record, vector: vectors[place]! })))
      now = {
        records: now.records + records.length,
        tokens: now.tokens + tokens,
        truncated: now.truncated + truncated,
        skipped,
        position: records.at(-1)!.index + 1,
        inputBytes: endBytes,
      }
      textsDigest = digest
      if (nowMs() - checkpointMs >= checkpointIntervalMs) await save()
    } catch (error) {
      outputFailed = true
      throw error
    }
    if (onProgress && nowMs() - progressMs >= progressIntervalMs) {
      progressMs = nowMs()
      onProgress(toProgress())
    }
  }

  /** What is done before the place of failure is written, and the rest is stopped. */
  const keepFinished = async (): Promise<void> => {
    try {
      if (outputFailed) failure.abort()
      else while (inFlight.length > 0) await writeOldest()
    } catch {
      failure.abort()
    }
    await Promise.allSettled(inFlight.map(({ embedded }) => embedded))
    // The checkpoint before a failed write still holds.
    if (outputFailed) return
    if (now.records > 0) await save()
    else await Promise.all([writer.discard(), removeCheckpoint(checkpointPath)])
  }

  try {
    for await (const batch of source.batches()) {
      signal.throwIfAborted()
      const embedded = embedBatch(options, batch, signal)
      // It is awaited in its turn; until then a rejection waits too.
      embedded.catch(() => {})
      inFlight.push({ batch, embedded })
      if (inFlight.length >= concurrency) await writeOldest()
    }
    while (inFlight.length > 0) await writeOldest()
  } catch (error) {
    await keepFinished()
    if (!options.signal?.aborted || outputFailed) throw error
    throw new EmbedError('EMBEDDING_INTERRUPTED', { output, records: now.records }, { cause: error })
  }
  now = { ...now, skipped: source.skipped() }
  await writer.close()
  await removeCheckpoint(checkpointPath)
  onProgress?.(toProgress())
  return { ...toProgress(), resumedRecords: start.records }
}

/** @throws {EmbedError} RECORD_FAILED that names the line, or the lines of the batch when the error names no text */
async function embedBatch(
  { embed, input }: EmbedCorpusOptions,
  { records }: TextBatch,
  signal: AbortSignal,
): Promise<EmbeddedTexts> {
  try {
    return await embed(
      records.map(({ text }) => text),
      signal,
    )
  } catch (error) {
    if (!(error instanceof EmbedError)) throw error
    const index = toIndex(error.details)
    const record = records[index]
    const place = record ? toPlace(record) : `${toPlace(records[0]!)} to ${toPlace(records.at(-1)!)}`
    const reason = error.message.replace(`input ${index} `, 'the text ')
    const path = input === stdinPath ? 'stdin' : input
    throw new EmbedError('RECORD_FAILED', { path, place, reason }, { cause: error })
  }
}

/** The place in the list that an error names; -1 when it names none. */
function toIndex(details: unknown): number {
  if (typeof details !== 'object' || details === null || !('index' in details)) return -1
  return typeof details.index === 'number' ? details.index : -1
}

function checkVectors(vectors: readonly Float32Array[], count: number, dimensions: number): void {
  const wrong = vectors.find((vector) => vector.length !== dimensions)
  if (vectors.length === count && !wrong) return
  const given = wrong ? `a vector of ${wrong.length} values` : `${vectors.length} vectors`
  const reason = `embed() gave ${given}, wanted ${count} vectors of ${dimensions} values`
  throw new EmbedError('INTERNAL', { reason })
}

function toInputFile({ totalBytes, modifiedMs }: CorpusInfo): Checkpoint['inputFile'] {
  return totalBytes === undefined || modifiedMs === undefined ? null : { totalBytes, modifiedMs }
}

function toIdentity(options: EmbedCorpusOptions, info: CorpusInfo, outputFormat: VectorFormat): RunIdentity {
  const { input, textColumn, idColumn, onEmpty, withTexts, dimensions, modelHash, identity } = options
  return {
    input: input === stdinPath ? stdinPath : resolve(input),
    'input format': info.format,
    'text column': textColumn ?? 'text',
    ...(idColumn === undefined ? {} : { 'id column': idColumn }),
    'empty records': onEmpty ?? 'error',
    'output format': outputFormat,
    'texts in output': withTexts ?? false,
    dimensions,
    model: modelHash,
    ...identity,
  }
}
