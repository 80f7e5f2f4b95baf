/** Keeps an engine alive: when it fails on a batch that it is known to compute, it is replaced by a fresh one. */
import type {
  Embeddings,
  EmbedOptions,
  Engine,
  EngineInfo,
  NodeProfiler,
  PackedBatch,
} from '../../engines/engine.ts'
import { EmbedError, toReason } from '../../errors.ts'
import { engineState } from '../../telemetry/channels.ts'
import type { MetricSource } from '../../telemetry/metric-source.ts'
import type { Clock } from '../batching/clock.ts'

export interface SupervisorOptions {
  /** A batch that a living engine computes. */
  readonly probe: PackedBatch
  /** Starts the engine anew and checks its vectors. */
  readonly recreate: () => Promise<Engine>
  readonly clock: Clock
}

/** First wait before a restart; it doubles up to the longest. */
const firstDelayMs = 100
const longestDelayMs = 30_000

export class SupervisedEngine implements Engine {
  readonly #options: SupervisorOptions
  #engine: Engine
  /** Settles when a dead engine was replaced or the supervisor was disposed; undefined while the engine lives. */
  #restart: Promise<void> | undefined
  readonly #disposed = new AbortController()

  /** Takes over the engine: it is disposed with the supervisor. */
  constructor(engine: Engine, options: SupervisorOptions) {
    this.#engine = engine
    this.#options = options
  }

  get info(): EngineInfo {
    return this.#engine.info
  }

  get metrics(): readonly MetricSource[] {
    return this.#engine.metrics ?? []
  }

  get nodeProfiler(): NodeProfiler | undefined {
    return this.#engine.nodeProfiler
  }

  /** False while the engine is dead and its replacement has not started. */
  get isHealthy(): boolean {
    return this.#restart === undefined
  }

  /** Waits for the replacement of a dead engine; a batch that finds the engine dead runs once more on its replacement. */
  async embed(batch: PackedBatch, options?: EmbedOptions): Promise<Embeddings> {
    for (let attempt = 1; ; attempt++) {
      await this.#restart
      const engine = this.#engine
      try {
        return await engine.embed(batch, options)
      } catch (error) {
        const isFailure = !(error instanceof EmbedError) || error.code === 'ENGINE_FAILED'
        if (isFailure && !this.#disposed.signal.aborted) {
          const isDead = engine !== this.#engine || !(await this.#isAlive(engine))
          if (isDead) {
            this.#replace(engine, toReason(error))
            if (attempt === 1) continue
          }
        }
        throw error
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort()
    await this.#restart
    await this.#engine[Symbol.asyncDispose]()
  }

  /** Asked after each failure anew: a probe that began before the failure says nothing about it. */
  async #isAlive(engine: Engine): Promise<boolean> {
    try {
      const { nonFiniteSequences } = await engine.embed(this.#options.probe)
      return nonFiniteSequences.length === 0
    } catch {
      return false
    }
  }

  #replace(dead: Engine, reason: string): void {
    if (dead !== this.#engine || this.#restart !== undefined) return
    this.#restart = this.#restartLoop(dead, reason).finally(() => {
      this.#restart = undefined
    })
  }

  async #restartLoop(dead: Engine, reason: string): Promise<void> {
    const engine = dead.info.name
    engineState.publish({ source: this, engine, isHealthy: false, reason })
    await Promise.resolve(dead[Symbol.asyncDispose]()).catch(() => undefined)
    for (let delayMs = firstDelayMs; ; delayMs = Math.min(longestDelayMs, 2 * delayMs)) {
      await this.#sleep(delayMs)
      if (this.#disposed.signal.aborted) return
      try {
        this.#engine = await this.#options.recreate()
        engineState.publish({ source: this, engine, isHealthy: true, reason: `restarted after: ${reason}` })
        return
      } catch (error) {
        engineState.publish({ source: this, engine, isHealthy: false, reason: toReason(error) })
      }
    }
  }

  #sleep(delayMs: number): Promise<void> {
    const { signal } = this.#disposed
    return new Promise((resolve) => {
      if (signal.aborted) {
        resolve()
        return
      }
      const cancel = this.#options.clock.schedule(delayMs, done)
      signal.addEventListener('abort', done, { once: true })
      function done(): void {
        cancel()
        signal.removeEventListener('abort', done)
        resolve()
      }
    })
  }
}
