/** Runs one batch: merge, run, split. A failing batch is bisected, so that only the guilty input fails. */
import type { Engine } from '../../engines/engine.ts'
import { findNonFiniteRow } from '../../engines/vectors.ts'
import { EmbedError, toReason } from '../../errors.ts'
import { type RequestBatch, batchDone } from '../../telemetry/channels.ts'
import type { Clock } from './clock.ts'
import { packBatch } from './packed-batch.ts'
import type { QueuedInput } from './queue.ts'

/** Settles every input of the batch; never rejects.
 * @param source the pipeline, for telemetry */
export async function processBatch(
  engine: Engine,
  batch: readonly QueuedInput[],
  clock: Clock,
  source?: object,
): Promise<void> {
  const live = batch.filter((input) => input.isLive())
  if (live.length === 0) return
  const startedMs = clock.nowMs()
  const outcome = await runOnce(engine, live, startedMs)
  if (batchDone.hasSubscribers) {
    publish(engine, source, live, startedMs - Math.min(...live.map((input) => input.arrivalMs)), outcome)
  }
  if (!(outcome instanceof EmbedError)) return
  if (live.length === 1) {
    live[0]!.reject(withIndexInRequest(outcome, live[0]!.index))
    return
  }
  const middle = live.length >> 1
  await processBatch(engine, live.slice(0, middle), clock, source)
  await processBatch(engine, live.slice(middle), clock, source)
}

/** The engine counts within its batch, the caller within the request. */
function withIndexInRequest(error: EmbedError, index: number): EmbedError {
  if (error.code !== 'NON_FINITE_OUTPUT') return error
  const { details } = error as EmbedError<'NON_FINITE_OUTPUT'>
  return new EmbedError('NON_FINITE_OUTPUT', { ...details, index }, { cause: error })
}

/** Milliseconds in the engine, or why the whole batch failed. */
async function runOnce(
  engine: Engine,
  live: readonly QueuedInput[],
  startedMs: number,
): Promise<number | EmbedError> {
  const output = live[0]!.output
  try {
    const packed = packBatch(live.map((input) => input.ids))
    const result = await engine.embed(packed, { output, normalize: false })
    const inferenceMs = Number(result.inferenceNs) / 1e6
    const done: RequestBatch = {
      startedMs,
      inferenceMs,
      batchSize: live.length,
      batchTokens: packed.inputIds.length,
    }
    let row = 0
    for (const input of live) {
      const rows = output === 'pooled' ? 1 : input.ids.length
      const values = result.values.subarray(row * result.dimensions, (row + rows) * result.dimensions)
      row += rows
      if (findNonFiniteRow(values, result.dimensions) === -1) input.resolve(values, done)
      else {
        const { name, precision } = engine.info
        input.reject(new EmbedError('NON_FINITE_OUTPUT', { index: input.index, engine: name, precision }))
      }
    }
    return inferenceMs
  } catch (error) {
    if (error instanceof EmbedError) return error
    const reason = toReason(error)
    return new EmbedError('ENGINE_FAILED', { engine: engine.info.name, reason }, { cause: error })
  }
}

function publish(
  engine: Engine,
  source: object | undefined,
  live: readonly QueuedInput[],
  queueWaitMs: number,
  outcome: number | EmbedError,
): void {
  const lengths = live.map((input) => input.ids.length)
  batchDone.publish({
    source,
    engine: engine.info.name,
    sequences: live.length,
    tokens: lengths.reduce((sum, length) => sum + length, 0),
    paddedTokens: live.length * Math.max(...lengths),
    lengths,
    queueWaitMs,
    inferenceMs: typeof outcome === 'number' ? outcome : 0,
    ...(typeof outcome === 'number' ? {} : { failure: outcome.code }),
  })
}
