/** Owns the pipeline that serves now, and swaps it for another while requests go on. */
import type { Config } from '../../config/schema.ts'
import { EmbedError } from '../../errors.ts'
import type { EmbeddingPipeline } from './embedding-pipeline.ts'
import type { StartupReport } from './start-pipeline.ts'

export interface ServedPipeline {
  readonly pipeline: EmbeddingPipeline
  readonly startup: StartupReport
  /** What it was made from. */
  readonly config: Config
}

/** One pipeline with the number of requests that began while it was the current one. */
interface Generation extends ServedPipeline {
  config: Config
  requests: number
  onIdle: () => void
}

export class PipelineHost implements AsyncDisposable {
  #current: Generation
  /** Settles when every pipeline before the current one is disposed. */
  #retired: Promise<void> = Promise.resolve()
  #isAccepting = true
  #isDisposed = false

  /** Takes over the pipeline. */
  constructor(first: ServedPipeline) {
    this.#current = toGeneration(first)
  }

  get current(): ServedPipeline {
    return this.#current
  }

  /** False once a stop was asked for; what still comes is answered all the same. */
  get isAccepting(): boolean {
    return this.#isAccepting
  }

  /** What a balancer wants to know. */
  get isReady(): boolean {
    return this.#isAccepting && this.#current.pipeline.isHealthy
  }

  stopAccepting(): void {
    this.#isAccepting = false
  }

  /** Says that a request begins: no pipeline that it may have seen is disposed before it has ended.
   * @returns to be called when the request ends; more calls do nothing */
  enter(): () => void {
    const generation = this.#current
    generation.requests++
    let isInside = true
    return () => {
      if (!isInside) return
      isInside = false
      generation.requests--
      if (generation.requests === 0) generation.onIdle()
    }
  }

  /** Makes the next pipeline beside the current one and swaps them; the old one is disposed when its requests have ended.
   * @throws what `start` throws, and the current one stays; SHUTTING_DOWN when the host was disposed meanwhile */
  async reload(start: () => Promise<ServedPipeline>): Promise<void> {
    const next = await start()
    if (this.#isDisposed) {
      await next.pipeline[Symbol.asyncDispose]()
      throw new EmbedError('SHUTTING_DOWN', {})
    }
    const old = this.#current
    this.#current = toGeneration(next)
    // One after the other: a request that began before this swap may have seen the new pipeline too.
    this.#retired = this.#retired.then(() => retire(old))
  }

  /** The current pipeline goes on under another configuration that makes the same one. */
  reconfigure(config: Config): void {
    this.#current.config = config
  }

  /** Settles when only the current pipeline is left. */
  whenRetired(): Promise<void> {
    return this.#retired
  }

  /** Frees all pipelines once what they accepted is answered. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isAccepting = false
    this.#isDisposed = true
    await this.#retired
    await this.#current.pipeline[Symbol.asyncDispose]()
  }
}

function toGeneration(served: ServedPipeline): Generation {
  return { ...served, requests: 0, onIdle: () => undefined }
}

async function retire(generation: Generation): Promise<void> {
  if (generation.requests > 0) await new Promise<void>((resolve) => (generation.onIdle = resolve))
  await generation.pipeline[Symbol.asyncDispose]()
}
