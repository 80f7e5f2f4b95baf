/** Of a few algorithms for each product, those with which the pass as a whole is fastest. Alone a product does not show what it costs
 * among its neighbours: whether the kernel before it may still run, or a memset has to end first. */
import type { DiskCache } from '../../hardware/gpu/disk-cache.ts'
import { GpuEvent } from '../../hardware/gpu/event.ts'
import { captureGraph, type GpuGraph } from '../../hardware/gpu/graph.ts'
import type { MatmulAlgorithm } from '../../hardware/gpu/matmul.ts'
import { textOf } from '../../hardware/gpu/matmul-candidate.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { ProductPlan } from './linear-layers.ts'

export interface SettleOptions {
  readonly stream: GpuStream
  /** Enqueues the pass that the plans are for. */
  readonly pass: () => void
  /** Where the choice is kept for the next start. */
  readonly cache: DiskCache | undefined
  readonly nowMs?: () => number
}

/** Raised whenever another choice may be made than before. */
const version = 2
/** Afterwards what was not tried is left: what gains most comes first. */
const budgetMs = 300
/** What pauses cost is lost in a pass that takes longer. */
const longestPassMs = 20
/** Of each of two passes that are compared, in turn. */
const [fewestRuns, mostRuns, runsMs] = [3, 5, 10]
/** What gains less is noise. */
const gainRatio = 0.997

/** Sets each plan's algorithm, one after the other. @throws {EmbedError} CUDA_STATUS */
export async function settlePlans(plans: readonly ProductPlan[], options: SettleOptions): Promise<void> {
  const open = plans.filter(({ choices }) => choices.length > 1)
  if (open.length === 0) return
  const key = keyOf(open)
  const known = parse(await options.cache?.read(key))
  if (known?.length === open.length) {
    for (const [i, plan] of open.entries()) plan.algorithm = plan.choices[known[i]!] ?? plan.algorithm
    return
  }
  const asItIs = tryCapture(options)
  if (asItIs === undefined) return
  using comparison = new PassComparison(options, asItIs)
  const { nowMs = () => performance.now() } = options
  const endMs = nowMs() + budgetMs
  if (await comparison.begin()) {
    for (const { plan, algorithm } of listAttempts(open)) {
      if (nowMs() >= endMs) break
      const before = plan.algorithm
      plan.algorithm = algorithm
      if (!(await comparison.isFaster())) plan.algorithm = before
    }
  }
  const chosen = open.map(({ choices, algorithm }) => choices.findIndex((each) => each === algorithm))
  await options.cache?.write(key, Buffer.from(JSON.stringify(chosen)))
}

/** Of each plan the choice with the fewest nodes, then of each the next. */
function listAttempts(plans: readonly ProductPlan[]): { plan: ProductPlan; algorithm: MatmulAlgorithm }[] {
  const attempts = plans.flatMap((plan) =>
    plan.choices
      .slice(1)
      .toSorted((a, b) => a.nodes - b.nodes)
      .map((algorithm, place) => ({ plan, algorithm, place })),
  )
  return attempts.toSorted((a, b) => a.place - b.place)
}

/** Between the pass that was fastest so far and the one as it is now. */
class PassComparison implements Disposable {
  readonly #options: SettleOptions
  readonly #stream: GpuStream
  readonly #events: readonly [GpuEvent, GpuEvent]
  #fastest: GpuGraph
  #passMs = 0

  constructor(options: SettleOptions, fastest: GpuGraph) {
    const { stream } = options
    this.#options = options
    this.#stream = stream
    this.#fastest = fastest
    this.#events = [new GpuEvent(stream.gpu, { timing: true }), new GpuEvent(stream.gpu, { timing: true })]
  }

  /** @returns false when the pass is too long for its pauses to matter */
  async begin(): Promise<boolean> {
    // The first launch of a graph takes longer.
    if ((await this.#time(this.#fastest)) > 2 * longestPassMs) return false
    this.#passMs = await this.#time(this.#fastest)
    return this.#passMs <= longestPassMs
  }

  async isFaster(): Promise<boolean> {
    const graph = tryCapture(this.#options)
    if (graph === undefined) return false
    const runs = Math.min(mostRuns, Math.max(fewestRuns, Math.ceil(runsMs / this.#passMs)))
    const [before, now]: [number[], number[]] = [[], []]
    await this.#time(graph)
    for (let run = 0; run < runs; run++) {
      before.push(await this.#time(this.#fastest))
      now.push(await this.#time(graph))
    }
    // What disturbs a run only makes it slower.
    const isFaster = Math.min(...now) < gainRatio * Math.min(...before)
    const loser = isFaster ? this.#fastest : graph
    if (isFaster) this.#fastest = graph
    loser[Symbol.dispose]()
    return isFaster
  }

  [Symbol.dispose](): void {
    this.#fastest[Symbol.dispose]()
    for (const event of this.#events) event[Symbol.dispose]()
  }

  /** @returns milliseconds */
  async #time(graph: GpuGraph): Promise<number> {
    const [start, end] = this.#events
    start.record(this.#stream)
    graph.launch(this.#stream)
    end.record(this.#stream)
    await end.done()
    return end.elapsedMsSince(start)
  }
}

/** @returns undefined where it cannot be recorded */
function tryCapture({ stream, pass }: SettleOptions): GpuGraph | undefined {
  try {
    return captureGraph(stream, pass)
  } catch {
    return undefined
  }
}

/** The choices say what the pass is made of, on which GPU and by which library. */
function keyOf(plans: readonly ProductPlan[]): unknown {
  const { name, multiprocessorCount } = plans[0]!.matmul.library.gpu.device
  return {
    settled: version,
    device: [name, multiprocessorCount],
    cublaslt: plans[0]!.matmul.library.version,
    plans: plans.map(({ matmul: { shape }, choices }) => ({
      shape,
      choices: choices.map(textOf),
    })),
  }
}

function parse(content: Uint8Array | undefined): number[] | undefined {
  return content === undefined ? undefined : (JSON.parse(Buffer.from(content).toString()) as number[])
}
