/** One random run of queue, batcher, processor and engine supervisor on a virtual clock, with everything that can go
 * wrong: bursts, cancels, deadlines, poison, NaN, full memory, slow and dying engines. Throws when a promise is broken. */
import type { Engine } from '../../src/engines/engine.ts'
import { EmbedError } from '../../src/errors.ts'
import { type BatchLimits, startBatching } from '../../src/serving/batching/batcher.ts'
import { BatchCostModel } from '../../src/serving/batching/cost-model.ts'
import { processBatch } from '../../src/serving/batching/processor.ts'
import {
  type AdmittedResult,
  type Priority,
  type QueuedInput,
  type QueueLimits,
  RequestQueue,
} from '../../src/serving/batching/queue.ts'
import { SupervisedEngine } from '../../src/serving/pipeline/engine-supervisor.ts'
import { ArithmeticEngine } from '../fakes/arithmetic-engine.ts'
import { VirtualClock, settleMicrotasks } from '../fakes/virtual-clock.ts'
import { type Random, createRandom } from '../../src/tuning/measure/random.ts'

/** How often each outcome occurred: a simulation that never meets a fault proves nothing. */
export type Tally = Record<string, number>

export async function simulateServing(seed: number): Promise<Tally> {
  const random = createRandom(seed)
  const run = new Simulation(random)
  const requests = Array.from({ length: random.integer(5, 50) }, () => run.createRequest())
  for (const request of requests.toSorted((a, b) => a.arrivalMs - b.arrivalMs)) {
    await run.clock.advance(request.arrivalMs - run.clock.nowMs())
    run.submit(request)
    run.checkLimits()
  }
  run.queue.close()
  await run.finish()
  return run.tally
}

interface SimulatedRequest {
  readonly arrivalMs: number
  readonly sequences: readonly Int32Array[]
  readonly output: 'pooled' | 'tokens'
  readonly priority: Priority
  readonly timeoutMs: number
  readonly cancelAfterMs: number | undefined
  /** Tokens that the estimate before tokenisation gives. */
  readonly estimatedTokens: number
  readonly tokenizeMs: number
}

class Simulation {
  readonly clock = new VirtualClock()
  readonly queue: RequestQueue
  readonly tally: Tally = {}
  readonly #random: Random
  readonly #limits: QueueLimits & BatchLimits
  readonly #memoryTokens: number
  readonly #engine: SupervisedEngine
  readonly #created: DyingEngine[] = []
  #running = 0
  /** The first promise that was broken. */
  #broken: unknown
  #unsettled = 0

  constructor(random: Random) {
    this.#random = random
    this.#limits = {
      maxQueuedRequests: random.integer(1, 20),
      maxQueuedTokens: random.integer(60, 600),
      maxBatchSize: random.integer(1, 8),
      maxBatchTokens: random.integer(16, 128),
      batchTimeoutMs: random.pick([0, 5, 20]),
      adaptiveBatching: random.chance(0.5),
      priorityHeadStartMs: random.integer(0, 100),
      concurrency: random.integer(1, 4),
      targetP95Ms: random.chance(0.3) ? random.integer(50, 300) : undefined,
    }
    this.#memoryTokens = random.chance(0.2) ? random.integer(20, 60) : Infinity
    const costs = new BatchCostModel()
    const { concurrency } = this.#limits
    this.queue = new RequestQueue(this.#limits, this.clock, (tokens) =>
      costs.predictDrainMs(tokens, concurrency),
    )
    this.#engine = new SupervisedEngine(this.#createEngine(), {
      probe: { inputIds: Int32Array.of(1), cumulativeLengths: Int32Array.of(0, 1) },
      recreate: () =>
        random.chance(0.3) ? Promise.reject(new Error('not yet')) : Promise.resolve(this.#createEngine()),
      clock: this.clock,
    })
    const processing = { engine: this.#engine, clock: this.clock }
    startBatching(this.queue, this.#limits, this.clock, costs, async (batch, exclusive) => {
      this.#running++
      this.#checkBatch(batch, exclusive)
      const outcome = await processBatch(batch, processing, exclusive)
      this.#running--
      return outcome
    })
  }

  createRequest(): SimulatedRequest {
    const random = this.#random
    const sequences = Array.from({ length: random.chance(0.2) ? random.integer(2, 12) : 1 }, () => {
      const ids = Int32Array.from({ length: random.integer(1, random.pick([4, 16, 60])) }, () =>
        random.integer(1, 500),
      )
      if (random.chance(0.04)) ids[0] = random.pick([ArithmeticEngine.poisonId, ArithmeticEngine.nanId])
      return ids
    })
    const tokens = sequences.reduce((sum, ids) => sum + ids.length, 0)
    return {
      // Bursts: half of the requests come in the first tenth of the time.
      arrivalMs: random.chance(0.5) ? random.integer(0, 50) : random.integer(0, 500),
      sequences,
      output: random.chance(0.1) ? 'tokens' : 'pooled',
      priority: random.chance(0.2) ? 'high' : 'normal',
      timeoutMs: random.chance(0.2) ? random.integer(0, 60) : 1_000_000,
      cancelAfterMs: random.chance(0.1) ? random.integer(0, 80) : undefined,
      estimatedTokens: Math.max(1, Math.round(tokens * (0.5 + random.next()))),
      tokenizeMs: random.integer(0, 3),
    }
  }

  /** Reserves, tokenises for a while, submits, and checks the answer. */
  submit(request: SimulatedRequest): void {
    this.#unsettled++
    const settle = async (): Promise<void> => {
      try {
        const outcome = await this.#answer(request)
        this.#unsettled--
        this.tally[outcome] = (this.tally[outcome] ?? 0) + 1
      } catch (error) {
        this.#broken ??= error
      }
    }
    void settle()
  }

  async #answer(request: SimulatedRequest): Promise<string> {
    const { sequences, output, priority, timeoutMs } = request
    const controller = new AbortController()
    if (request.cancelAfterMs !== undefined) {
      this.clock.schedule(request.cancelAfterMs, () => controller.abort())
    }
    try {
      const place = this.queue.reserve(request.estimatedTokens, priority)
      await new Promise<void>((resolve) => this.clock.schedule(request.tokenizeMs, resolve))
      const result = await place.submit(sequences, { output, priority, timeoutMs, signal: controller.signal })
      this.#checkAnswer(request, result)
      return 'ok'
    } catch (error) {
      if (!(error instanceof EmbedError)) throw error
      this.#checkRefusal(request, error)
      return error.code
    }
  }

  /** Lets everything end and looks for what was left behind. */
  async finish(): Promise<void> {
    for (let i = 0; i < 2000 && this.#unsettled > 0 && this.#broken === undefined; i++)
      await this.clock.advance(100)
    // Cancels of requests that are done.
    await this.clock.advance(1000)
    if (this.#broken !== undefined) throw this.#broken
    await this.#engine[Symbol.asyncDispose]()
    await settleMicrotasks()
    const left = {
      unsettled: this.#unsettled,
      requests: this.queue.requestCount,
      tokens: this.queue.tokenCount,
      waiting: this.queue.waitingCount,
      running: this.#running,
      timers: this.clock.pendingTimers,
      engines: this.#created.filter((engine) => !engine.isDisposed).length,
    }
    for (const [what, count] of Object.entries(left)) assert(count === 0, `${count} ${what} left at the end`)
    this.tally['engines'] = (this.tally['engines'] ?? 0) + this.#created.length
    assert(
      !this.#created.some((engine) => engine.inner.brokeExclusive),
      'a batch ran beside an exclusive one',
    )
  }

  checkLimits(): void {
    const { maxQueuedRequests, maxQueuedTokens } = this.#limits
    assert(this.queue.requestCount <= maxQueuedRequests, 'more requests than the limit')
    assert(this.queue.tokenCount <= maxQueuedTokens, 'more tokens than the limit')
  }

  /** Called when a batch leaves the queue: limits, and nobody that is due before its oldest is left behind. */
  #checkBatch(batch: readonly QueuedInput[], exclusive: boolean): void {
    const { maxBatchSize, maxBatchTokens, concurrency, priorityHeadStartMs } = this.#limits
    assert(batch.length > 0 && batch.length <= maxBatchSize, `a batch of ${batch.length}`)
    const longest = Math.max(...batch.map((input) => input.ids.length))
    assert(batch.length === 1 || batch.length * longest <= maxBatchTokens, 'a batch over maxBatchTokens')
    assert(this.#running <= concurrency && !(exclusive && this.#running > 1), 'too many batches at once')
    const dueMs = (input: QueuedInput): number =>
      input.arrivalMs - (input.priority === 'high' ? priorityHeadStartMs : 0)
    const firstMs = Math.min(...batch.map(dueMs))
    for (const input of this.queue.waiting()) {
      assert(dueMs(input) >= firstMs, 'an input that was due first was left waiting')
      assert(input.isLive(), 'an input of a settled request waits')
    }
    this.checkLimits()
  }

  #checkAnswer({ sequences, output }: SimulatedRequest, { rows }: AdmittedResult): void {
    assert(rows.length === sequences.length, 'another number of rows than inputs')
    for (const [i, ids] of sequences.entries()) {
      const expected =
        output === 'tokens'
          ? [...ids].flatMap((id) => [id, 1])
          : [ids.reduce((sum, id) => sum + id, 0), ids.length]
      const actual = [...rows[i]!]
      assert(
        String(actual) === String(expected),
        `row ${i} is ${actual.join(' ')} instead of ${expected.join(' ')}`,
      )
    }
  }

  #checkRefusal(request: SimulatedRequest, { code, message }: EmbedError): void {
    const holds = (id: number): boolean => request.sequences.some((ids) => ids[0] === id)
    const tokens = request.sequences.reduce((sum, ids) => sum + ids.length, 0)
    const isAllowed: Record<string, boolean> = {
      QUEUE_FULL: true,
      OVER_OBJECTIVE: this.#limits.targetP95Ms !== undefined && request.priority === 'normal',
      REQUEST_TOO_LARGE: tokens > this.#limits.maxQueuedTokens,
      REQUEST_TIMEOUT: request.timeoutMs < 1_000_000,
      REQUEST_CANCELLED: request.cancelAfterMs !== undefined,
      ENGINE_FAILED: holds(ArithmeticEngine.poisonId),
      NON_FINITE_OUTPUT: holds(ArithmeticEngine.nanId),
      ENGINE_OUT_OF_MEMORY: request.sequences.some((ids) => ids.length > this.#memoryTokens),
    }
    assert(isAllowed[code] === true, `${code} without a reason: ${message}`)
  }

  #createEngine(): DyingEngine {
    const random = this.#random
    const [fixedMs, msPerToken] = [random.integer(0, 20), random.next()]
    const inner = new ArithmeticEngine(this.clock, (lengths) => {
      const tokens = lengths.reduce((sum, length) => sum + length, 0)
      const spikeMs = random.chance(0.02) ? 200 : 0
      return (fixedMs + msPerToken * tokens) * (0.8 + 0.4 * random.next()) + spikeMs
    })
    inner.memoryTokens = this.#memoryTokens
    // A replacement lives longer than one batch: what kills two engines is taken for the batch's fault.
    const leastBatches = this.#created.length === 0 ? 1 : 20
    const lifetime = random.chance(0.3) ? leastBatches + random.integer(0, 30) : Infinity
    const engine = new DyingEngine(inner, lifetime)
    this.#created.push(engine)
    return engine
  }
}

/** Computes so many batches, then fails at every call. */
class DyingEngine implements Engine {
  readonly inner: ArithmeticEngine
  #batchesLeft: number

  constructor(inner: ArithmeticEngine, batchesLeft: number) {
    this.inner = inner
    this.#batchesLeft = batchesLeft
  }

  get info(): Engine['info'] {
    return this.inner.info
  }

  get isDisposed(): boolean {
    return this.inner.isDisposed
  }

  embed(...args: Parameters<Engine['embed']>): ReturnType<Engine['embed']> {
    if (this.#batchesLeft-- > 0) return this.inner.embed(...args)
    return Promise.reject(new EmbedError('ENGINE_FAILED', { engine: 'arithmetic', reason: 'device lost' }))
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.inner[Symbol.asyncDispose]()
  }
}

function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what)
}
