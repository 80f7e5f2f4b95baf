/** Runs one batch: merge, run, split. What fails fails alone: the batch is bisected, rows that are not finite are
 * computed once more at a higher precision, and a batch that memory cannot hold is halved. */
import type { Embeddings, Engine } from '../../engines/engine.ts'
import { EmbedError, toReason } from '../../errors.ts'
import { type RequestBatch, batchDone } from '../../telemetry/channels.ts'
import type { Clock } from './clock.ts'
import { packBatch } from './packed-batch.ts'
import type { QueuedInput } from './queue.ts'

export interface ProcessorOptions {
  /** The pipeline, for telemetry. */
  readonly source?: object | undefined
  readonly engine: Engine
  readonly clock: Clock
  /** The same model at a higher precision, started when it is needed first; gives undefined where there is none. */
  readonly higherPrecision?: (() => Promise<Engine | undefined>) | undefined
}

export interface BatchOutcome {
  /** Tokens and time of the whole batch, when it went through in one run. */
  readonly tokens: number
  readonly inferenceMs: number | undefined
  /** Fewest tokens for which memory ran out. */
  readonly outOfMemoryTokens?: number
}

/** Settles every input of the batch; never rejects.
 * @param exclusive nothing else runs meanwhile */
export async function processBatch(
  batch: readonly QueuedInput[],
  options: ProcessorOptions,
  exclusive = false,
): Promise<BatchOutcome> {
  const live = batch.filter((input) => input.isLive())
  const tokens = live.reduce((sum, input) => sum + input.ids.length, 0)
  if (live.length === 0) return { tokens, inferenceMs: undefined }
  const outcome = await runOnce(live, options, exclusive)
  if (!(outcome instanceof EmbedError)) return { tokens, inferenceMs: outcome }

  const isOutOfMemory = outcome.code === 'ENGINE_OUT_OF_MEMORY'
  let outOfMemoryTokens = isOutOfMemory ? tokens : Infinity
  // Any other failure is not of one input, or would come back for each.
  const canSplit = live.length > 1 && (isOutOfMemory || outcome.code === 'ENGINE_FAILED')
  if (canSplit) {
    const middle = live.length >> 1
    for (const half of [live.slice(0, middle), live.slice(middle)]) {
      const { outOfMemoryTokens: halfTokens = Infinity } = await processBatch(half, options, exclusive)
      outOfMemoryTokens = Math.min(outOfMemoryTokens, halfTokens)
    }
  } else for (const input of live) input.reject(outcome)
  return {
    tokens,
    inferenceMs: undefined,
    ...(outOfMemoryTokens === Infinity ? {} : { outOfMemoryTokens }),
  }
}

/** Milliseconds in the engine, or why the whole batch failed. */
async function runOnce(
  live: readonly QueuedInput[],
  options: ProcessorOptions,
  exclusive: boolean,
): Promise<number | EmbedError> {
  const { engine } = options
  const startedMs = options.clock.nowMs()
  const { output } = live[0]!
  const outcome = await embed(engine, live, exclusive)
  if (batchDone.hasSubscribers) publish(options, live, startedMs, outcome)
  if (outcome instanceof EmbedError) return outcome

  const done = toRequestBatch(live, startedMs, outcome)
  const nonFinite = new Set(outcome.nonFiniteSequences)
  let row = 0
  for (const [place, input] of live.entries()) {
    const rows = output === 'pooled' ? 1 : input.ids.length
    if (!nonFinite.has(place)) input.resolve(rowsOf(outcome, row, rows), done)
    row += rows
  }
  if (nonFinite.size > 0) {
    const inputs = live.filter((_, place) => nonFinite.has(place))
    const higher = await options.higherPrecision?.().catch(() => undefined)
    await computeAgain(inputs, engine, startedMs, higher)
  }
  return done.inferenceMs
}

/** The last try for inputs whose vectors were not finite. */
async function computeAgain(
  inputs: readonly QueuedInput[],
  first: Engine,
  startedMs: number,
  higher: Engine | undefined,
): Promise<void> {
  for (const input of inputs) {
    if (!input.isLive()) continue
    const { name, precision } = (higher ?? first).info
    const result = higher === undefined ? undefined : await embed(higher, [input], false)
    if (result === undefined || result instanceof EmbedError || result.nonFiniteSequences.length > 0) {
      const cause = result instanceof EmbedError ? result : undefined
      input.reject(
        new EmbedError('NON_FINITE_OUTPUT', { index: input.index, engine: name, precision }, { cause }),
      )
    } else {
      input.resolve(rowsOf(result, 0, result.rows), toRequestBatch([input], startedMs, result))
    }
  }
}

async function embed(
  engine: Engine,
  inputs: readonly QueuedInput[],
  exclusive: boolean,
): Promise<Embeddings | EmbedError> {
  const { output } = inputs[0]!
  try {
    return await engine.embed(packBatch(inputs.map((input) => input.ids)), {
      output,
      normalize: false,
      exclusive,
    })
  } catch (error) {
    if (error instanceof EmbedError) return error
    const reason = toReason(error)
    return new EmbedError('ENGINE_FAILED', { engine: engine.info.name, reason }, { cause: error })
  }
}

function toRequestBatch(
  inputs: readonly QueuedInput[],
  startedMs: number,
  { inferenceNs }: Embeddings,
): RequestBatch {
  return {
    startedMs,
    inferenceMs: Number(inferenceNs) / 1e6,
    batchSize: inputs.length,
    batchTokens: inputs.reduce((sum, input) => sum + input.ids.length, 0),
  }
}

function rowsOf({ values, dimensions }: Embeddings, row: number, rows: number): Float32Array {
  return values.subarray(row * dimensions, (row + rows) * dimensions)
}

function publish(
  { engine, source }: ProcessorOptions,
  live: readonly QueuedInput[],
  startedMs: number,
  outcome: Embeddings | EmbedError,
): void {
  const lengths = live.map((input) => input.ids.length)
  const isFailed = outcome instanceof EmbedError
  batchDone.publish({
    source,
    engine: engine.info.name,
    sequences: live.length,
    tokens: lengths.reduce((sum, length) => sum + length, 0),
    paddedTokens: live.length * Math.max(...lengths),
    lengths,
    queueWaitMs: startedMs - Math.min(...live.map((input) => input.arrivalMs)),
    inferenceMs: isFailed ? 0 : Number(outcome.inferenceNs) / 1e6,
    ...(isFailed ? { failure: outcome.code } : {}),
  })
}
