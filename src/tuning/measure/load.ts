/** Ways to put a target under load. */
import { EmbedError } from '../../errors.ts'
import { percentile } from './percentile.ts'
import { createRandom } from './random.ts'
import type { LoadTarget } from './target.ts'
import type { Workload, WorkloadRequest } from './workload.ts'

export type Load =
  /** So many clients, each sends its next request when the last was answered. */
  | { readonly kind: 'closed'; readonly clients: number }
  /** Requests leave at times that do not depend on the answers; latency counts from the time a request was due, so that
   * neither a slow server nor a late client hides it (coordinated omission). */
  | { readonly kind: 'open'; readonly requestsPerSecond: number; readonly arrivals: 'poisson' | 'constant' }

export interface LoadOptions {
  readonly workload: Workload
  readonly load: Load
  readonly durationMs: number
  /** Requests of this long before are sent and not counted. */
  readonly warmupMs: number
  readonly seed?: number
  readonly signal?: AbortSignal
  readonly clock?: LoadClock
  /** Told of every answer that counts. */
  readonly onLatency?: (latencyMs: number) => void
}

/** Time, so that a test can own it. */
export interface LoadClock {
  nowMs(): number
  waitUntil(timeMs: number): Promise<void>
}

/** One round: one target, one load. */
export interface RoundResult {
  readonly requests: number
  readonly p50Ms: number
  readonly p95Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  readonly requestsPerSecond: number
  readonly textsPerSecond: number
  readonly tokensPerSecond: number
  readonly errors: number
  readonly firstError?: string
  // Below: null where the target does not tell.
  readonly averageBatchSize: number | null
  /** Mean share of a batch that is padding. */
  readonly paddingRatio: number | null
  /** CPU time of the target over the time of the round. */
  readonly cpuCores: number | null
  readonly rssBytes: number | null
}

/** @throws {EmbedError} TARGET_FAILED when nothing was answered; REQUEST_CANCELLED when the signal said so */
export async function runLoad(target: LoadTarget, options: LoadOptions): Promise<RoundResult> {
  const clock = options.clock ?? systemLoadClock
  const startMs = clock.nowMs()
  const measuredFromMs = startMs + options.warmupMs
  const endMs = measuredFromMs + options.durationMs
  const latenciesMs: number[] = []
  const sums = { texts: 0, tokens: 0, errors: 0 }
  let firstError: string | undefined
  const send: Send = async (request, dueMs) => {
    const isCounted = dueMs >= measuredFromMs
    try {
      await target.send(request)
      if (!isCounted) return true
      const latencyMs = clock.nowMs() - dueMs
      latenciesMs.push(latencyMs)
      options.onLatency?.(latencyMs)
      sums.texts += request.texts.length
      sums.tokens += request.tokens
      return true
    } catch (error) {
      firstError ??= error instanceof Error ? error.message : String(error)
      if (isCounted) sums.errors++
      return false
    }
  }
  const before = clock.waitUntil(measuredFromMs).then(() => target.readCounters())
  const run = options.load.kind === 'closed' ? runClosedLoop : runOpenLoop
  const [counters, elapsedMs] = await Promise.all([
    before,
    run({ ...options, send, clock, startMs, measuredFromMs, endMs }),
  ])
  const after = await target.readCounters()
  const counterMs = clock.nowMs() - measuredFromMs
  if (options.signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {})
  if (latenciesMs.length === 0) {
    const reason = firstError ?? `no request was answered within ${options.durationMs} ms; give it more time`
    throw new EmbedError('TARGET_FAILED', { target: target.name, reason })
  }
  const elapsedSeconds = elapsedMs / 1000
  const difference = (key: 'batches' | 'inputs' | 'paddingRatioSum' | 'cpuSeconds'): number | undefined =>
    after[key] === undefined || counters[key] === undefined ? undefined : after[key] - counters[key]
  const batches = difference('batches')
  const perBatch = (sum: number | undefined): number | null =>
    sum === undefined || batches === undefined || batches === 0 ? null : sum / batches
  const cpuSeconds = difference('cpuSeconds')
  return {
    requests: latenciesMs.length,
    p50Ms: percentile(latenciesMs, 0.5),
    p95Ms: percentile(latenciesMs, 0.95),
    p99Ms: percentile(latenciesMs, 0.99),
    maxMs: percentile(latenciesMs, 1),
    requestsPerSecond: latenciesMs.length / elapsedSeconds,
    textsPerSecond: sums.texts / elapsedSeconds,
    tokensPerSecond: sums.tokens / elapsedSeconds,
    errors: sums.errors,
    ...(firstError === undefined ? {} : { firstError }),
    averageBatchSize: perBatch(difference('inputs')),
    paddingRatio: perBatch(difference('paddingRatioSum')),
    cpuCores: cpuSeconds === undefined ? null : (cpuSeconds * 1000) / counterMs,
    rssBytes: after.rssBytes ?? null,
  }
}

/** @returns whether it was answered */
type Send = (request: WorkloadRequest, dueMs: number) => Promise<boolean>

interface Loop extends LoadOptions {
  readonly send: Send
  readonly clock: LoadClock
  readonly startMs: number
  readonly measuredFromMs: number
  readonly endMs: number
}

/** @returns from a client's first request that counts to its last answer, the mean over the clients, in ms: none waits at
 * either end, so that requests / time is the rate however long one takes */
async function runClosedLoop(loop: Loop): Promise<number> {
  const { send, clock, measuredFromMs, endMs, signal } = loop
  const { requests } = loop.workload
  const { clients } = loop.load as Extract<Load, { kind: 'closed' }>
  let next = 0
  const runClient = async (): Promise<number> => {
    let firstMs: number | undefined
    // One request that counts at least, however long it takes.
    for (let dueMs = clock.nowMs(); dueMs < endMs || firstMs === undefined; dueMs = clock.nowMs()) {
      if (signal?.aborted === true) break
      if (dueMs >= measuredFromMs) firstMs ??= dueMs
      const isAnswered = await send(requests[next++ % requests.length]!, dueMs)
      // One that refuses at once must not be all that this process does.
      if (!isAnswered) await clock.waitUntil(clock.nowMs() + 1)
    }
    return clock.nowMs() - (firstMs ?? measuredFromMs)
  }
  const spans = await Promise.all(Array.from({ length: clients }, runClient))
  return spans.reduce((sum, span) => sum + span, 0) / clients
}

/** @returns the time in which requests were due, longer when answers came after it, in ms */
async function runOpenLoop({ send, clock, startMs, endMs, ...options }: Loop): Promise<number> {
  const { requests } = options.workload
  const { requestsPerSecond, arrivals } = options.load as Extract<Load, { kind: 'open' }>
  const random = createRandom(options.seed ?? 1)
  const gapMs = (): number =>
    (arrivals === 'constant' ? 1 : -Math.log(1 - random.next())) * (1000 / requestsPerSecond)
  const pending = new Set<Promise<boolean>>()
  let dueMs = startMs + gapMs()
  for (let next = 0; dueMs < endMs && options.signal?.aborted !== true; next++, dueMs += gapMs()) {
    await clock.waitUntil(dueMs)
    const answer: Promise<boolean> = send(requests[next % requests.length]!, dueMs).finally(() =>
      pending.delete(answer),
    )
    pending.add(answer)
  }
  await Promise.all(pending)
  return Math.max(endMs, clock.nowMs()) - options.measuredFromMs
}

const systemLoadClock: LoadClock = {
  nowMs: () => performance.now(),
  // Timers are late by up to a millisecond: the last part is waited for in turns of the event loop.
  async waitUntil(timeMs) {
    for (let restMs = timeMs - performance.now(); restMs > 0; restMs = timeMs - performance.now()) {
      if (restMs > 2) await new Promise((resolve) => setTimeout(resolve, restMs - 1))
      else await new Promise((resolve) => setImmediate(resolve))
    }
  },
}
