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

  /** A sequence that holds `poisonId` fails its batch, one that holds `refusedNanId` too, as engines that find NaN do;
   * one that holds `nanId` gives NaN. */
  static readonly poisonId = 666
  static readonly refusedNanId = 667
  static readonly nanId = 777

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
    const durationMs = this.#durationMs(lengths)
    await new Promise<void>((resolve) => this.#clock.schedule(durationMs, resolve))
    this.running--
    if (inputIds.includes(ArithmeticEngine.poisonId)) {
      throw new EmbedError('ENGINE_FAILED', { engine: 'arithmetic', reason: 'poison' })
    }
    const refused = sequences.findIndex((ids) => ids.includes(ArithmeticEngine.refusedNanId))
    if (refused !== -1) {
      const { name, precision } = this.info
      throw new EmbedError('NON_FINITE_OUTPUT', { index: refused, engine: name, precision })
    }
    const rowsOf = (ids: Int32Array): number[] =>
      options.output === 'tokens' ? [...ids].flatMap((id) => [id, 1]) : [sum(ids), ids.length]
    const values = Float32Array.from(sequences.flatMap((ids) => rowsOf(ids)))
    return {
      values,
      rows: values.length / 2,
      dimensions: 2,
      normalized: false,
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
