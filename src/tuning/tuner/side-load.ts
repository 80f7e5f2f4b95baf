/** The load on one side: warm before the first round that counts. */
import { type LoadClock, runLoad } from '../measure/load.ts'
import type { LoadTarget } from '../measure/target.ts'
import type { Workload } from '../measure/workload.ts'
import type { Slice } from './side.ts'

export interface SideLoadOptions {
  /** Borrowed. */
  readonly target: LoadTarget
  readonly workload: Workload
  /** Clients of the closed loops, a scenario each. */
  readonly clients: readonly number[]
  /** Of those that are measured only when all are asked for. */
  readonly moreClients?: readonly number[] | undefined
  readonly roundMs: number
  readonly clock?: LoadClock
}

export interface SideLoad {
  /** One round of every scenario. @throws {EmbedError} TARGET_FAILED; {Error} when a request failed */
  measure(all: boolean): Promise<Slice>
}

/** Of each number of clients, before anything is measured. With 10 an equal candidate was 3.5 % behind in its first 8 pairs, with 20 still
 * 4 % where texts are batched (openvino bf16, streams 2, maxBatchSize 32) and nothing after them: enough to roll a gain back. */
const warmUpRounds = 30

/** What a process does first is slower for seconds: shapes of the engine, costs that the batcher learns, JavaScript that is not
 * optimised yet. Without this an equal candidate, which has just begun, was 5 to 8 % behind the incumbent in its first
 * 8 pairs, 4 % in the next 8 (openvino bf16, 2 cores); benchmarks/tuning/equal-sides.mjs measures it.
 * @throws {EmbedError} TARGET_FAILED */
export async function startSideLoad(options: SideLoadOptions): Promise<SideLoad> {
  for (const clients of options.clients) {
    await runClients(options, clients, { durationMs: warmUpRounds * options.roundMs, warmupMs: 0 })
  }
  return { measure: (all) => measure(options, all) }
}

async function measure(options: SideLoadOptions, all: boolean): Promise<Slice> {
  const { clients: always, moreClients = [], roundMs } = options
  const scenarios: Record<string, Slice['scenarios'][string]> = {}
  for (const clients of [...always, ...(all ? moreClients : [])].sort((a, b) => a - b)) {
    const latenciesMs: number[] = []
    const round = await runClients(options, clients, {
      durationMs: roundMs,
      // The caches of the other side have to leave.
      warmupMs: roundMs / 5,
      onLatency: (latencyMs) => latenciesMs.push(latencyMs),
    })
    if (round.errors > 0) throw new Error(`${round.errors} requests failed, the first: ${round.firstError}`)
    const { textsPerSecond, p50Ms, p95Ms, p99Ms } = round
    const name = `${clients} client${clients === 1 ? '' : 's'}`
    scenarios[name] = { textsPerSecond, p50Ms, p95Ms, p99Ms, latenciesMs }
  }
  return { scenarios, rssBytes: process.memoryUsage.rss() }
}

function runClients(
  { target, workload, clock }: SideLoadOptions,
  clients: number,
  round: Pick<Parameters<typeof runLoad>[1], 'durationMs' | 'warmupMs' | 'onLatency'>,
) {
  return runLoad(target, {
    workload,
    load: { kind: 'closed', clients },
    ...round,
    ...(clock === undefined ? {} : { clock }),
  })
}
