import type { EmbedOptions, Embeddings, Engine, EngineInfo, PackedBatch } from '../../src/engines/engine.ts'
import { EmbedError } from '../../src/errors.ts'
import type { Clock } from '../../src/serving/batching/clock.ts'

/** An engine whose vectors are plain arithmetic of the ids, so that a mixed-up row shows: row = [sum, length]. */
export class ArithmeticEngine implements Engine {
  readonly info: EngineInfo = {
    name: 'arithmetic',
    device: 'none',
    precision: 'fp32',
    runtimeVersion: '1',
    dimensions: 2,
    maxTokens: 512,
    maxBatchSize: 1024,
    memoryBytes: 0,
    outputs: ['pooled', 'tokens'],
    concurrency: 1,
  }
  /** Lengths of the sequences of each batch it ran. */
  readonly batches: number[][] = []
  readonly #clock: Clock
  readonly #durationMs: (lengths: readonly number[]) => number
  running = 0
  isDisposed = false
  /** What a supervisor tells of an engine. */
  isHealthy = true

  /** A sequence that holds `poisonId` fails its batch, one that holds `nanId` gives NaN. */
  static readonly poisonId = 666
  static readonly nanId = 777
  /** Memory holds batches of so many tokens. */
  memoryTokens = Infinity
  /** Most calls that ran at once, and whether any ran beside one that was to run alone. */
  mostRunning = 0
  brokeExclusive = false
  #exclusiveRunning = 0

  constructor(clock: Clock, durationMs: (lengths: readonly number[]) => number) {
    this.#clock = clock
    this.#durationMs = durationMs
  }

  async embed(batch: PackedBatch, options: EmbedOptions = {}): Promise<Embeddings> {
    const { inputIds, cumulativeLengths } = batch
    const sequences = Array.from({ length: cumulativeLengths.length - 1 }, (_, i) =>
      inputIds.subarray(cumulativeLengths[i], cumulativeLengths[i + 1]),
    )
    const lengths = sequences.map((ids) => ids.length)
    this.batches.push(lengths)
    this.running++
    if (options.exclusive === true) this.#exclusiveRunning++
    if (this.#exclusiveRunning > 0 && this.running > 1) this.brokeExclusive = true
    this.mostRunning = Math.max(this.mostRunning, this.running)
    const durationMs = this.#durationMs(lengths)
    await new Promise<void>((resolve) => this.#clock.schedule(durationMs, resolve))
    this.running--
    if (options.exclusive === true) this.#exclusiveRunning--
    if (inputIds.length > this.memoryTokens) {
      const { length: tokens } = inputIds
      const reason = `memory holds ${this.memoryTokens}`
      throw new EmbedError('ENGINE_OUT_OF_MEMORY', {
        engine: 'arithmetic',
        sequences: lengths.length,
        tokens,
        reason,
      })
    }
    if (inputIds.includes(ArithmeticEngine.poisonId)) {
      throw new EmbedError('ENGINE_FAILED', { engine: 'arithmetic', reason: 'poison' })
    }
    const rowsOf = (ids: Int32Array): number[] =>
      options.output === 'tokens' ? [...ids].flatMap((id) => [id, 1]) : [sum(ids), ids.length]
    const values = Float32Array.from(sequences.flatMap((ids) => rowsOf(ids)))
    return {
      values,
      rows: values.length / 2,
      dimensions: 2,
      normalized: false,
      nonFiniteSequences: [...sequences.keys()].filter((i) => sequences[i]!.includes(ArithmeticEngine.nanId)),
      inferenceNs: BigInt(Math.round(durationMs * 1e6)),
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.isDisposed = true
    return Promise.resolve()
  }
}

function sum(ids: Int32Array): number {
  return ids.includes(ArithmeticEngine.nanId) ? Number.NaN : ids.reduce((total, id) => total + id, 0)
}
