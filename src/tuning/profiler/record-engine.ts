/** Batches on an engine with the GPU's records of just them. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine, PackedBatch } from '../../engines/engine.ts'
import { EmbedError } from '../../errors.ts'
import type { GpuActivity, Interval } from '../../hardware/gpu/activity.ts'
import type { ActivityRecorder } from '../../hardware/gpu/activity-recorder.ts'
import { cutActivity, toWindow } from './gpu-profile.ts'
import type { HostSpan } from './records.ts'

export interface EngineWorkload {
  /** Taken in turn. */
  readonly batches: readonly PackedBatch[]
  /** Batches recorded. */
  readonly iterations: number
  /** Batches before them: an engine records its CUDA graph the second time a shape comes. Default 3 times `batches`. */
  readonly warmUps?: number
  readonly apiCalls?: boolean
  readonly signal?: AbortSignal | undefined
}

export interface EngineRecording {
  /** Of the iterations alone. */
  readonly activity: GpuActivity
  /** From the first iteration to the end of the last, on the recording's clock: what utilisation is of. */
  readonly window: Interval
  /** One a batch. */
  readonly spans: readonly HostSpan[]
  readonly tokensPerBatch: number
}

/** More than the clocks of CPU and GPU disagree by: the GPU rests twice as long before the first iteration. */
const clockSlackMs = 1

/** @throws {EmbedError} WORKLOAD_INVALID when there is nothing to run, what the engine throws, and as recorder.start */
export async function recordEngine(
  engine: Pick<Engine, 'embed'>,
  recorder: Pick<ActivityRecorder, 'start' | 'stop'>,
  { batches, iterations, warmUps = 3 * batches.length, apiCalls = false, signal }: EngineWorkload,
): Promise<EngineRecording> {
  if (batches.length === 0 || iterations < 1) {
    const reason = `${batches.length} batches, ${iterations} iterations; at least one of each is needed`
    throw new EmbedError('WORKLOAD_INVALID', { workload: 'profile', reason })
  }
  const run = async (count: number): Promise<HostSpan[]> => {
    const spans: HostSpan[] = []
    for (let i = 0; i < count; i++) spans.push(await embed(engine, batches[i % batches.length]!, signal))
    return spans
  }
  await run(warmUps)
  await recorder.start({ apiCalls })
  let spans: HostSpan[]
  let recorded: GpuActivity
  try {
    await run(1) // the first launches after a start are not what others cost
    await sleep(2 * clockSlackMs)
    spans = await run(iterations)
  } finally {
    recorded = await recorder.stop()
  }
  const [fromMs, last] = [spans[0]!.startedMs, spans.at(-1)!]
  const toMs = last.startedMs + last.durationMs
  const activity = cutActivity(recorded, fromMs - clockSlackMs, toMs)
  const tokens = spans.reduce((sum, { details }) => sum + Number(details!['tokens']), 0)
  return { activity, window: toWindow(recorded, fromMs, toMs), spans, tokensPerBatch: tokens / iterations }
}

async function embed(
  engine: Pick<Engine, 'embed'>,
  batch: PackedBatch,
  signal: AbortSignal | undefined,
): Promise<HostSpan> {
  const startedMs = performance.now()
  await engine.embed(batch, signal === undefined ? {} : { signal })
  const sequences = batch.cumulativeLengths.length - 1
  const tokens = batch.inputIds.length
  return {
    track: 'batches',
    name: `${sequences} x ${Math.round(tokens / sequences)} tokens`,
    startedMs,
    durationMs: performance.now() - startedMs,
    details: { sequences, tokens },
  }
}
