/** Joins the stages: text -> tokenizer -> queue -> batcher -> engine -> vectors. */
import type { Engine } from '../../engines/engine.ts'
import { normalizeRows, truncateDimensions } from '../../engines/vectors.ts'
import { EmbedError } from '../../errors.ts'
import type { ModelSpec } from '../../model/spec.ts'
import { type RequestBatch, requestDone, tokenizeDone } from '../../telemetry/channels.ts'
import { type BatchLimits, startBatching } from '../batching/batcher.ts'
import { type Clock, systemClock } from '../batching/clock.ts'
import { BatchCostModel } from '../batching/cost-model.ts'
import { processBatch } from '../batching/processor.ts'
import { type Priority, type QueueLimits, RequestQueue } from '../batching/queue.ts'
import type { TokenizedInput, Tokenizer, Truncation } from '../tokenizer/tokenizer.ts'
import { choosePrompt } from './prompt.ts'

/** A text, or token ids that are taken as they are (special tokens included). */
export type EmbeddingInput = string | readonly number[]

export interface EmbedRequest {
  readonly inputs: readonly EmbeddingInput[]
  /** Name of one of the model's prompts; put before each text. */
  readonly promptName?: string | undefined
  /** Task for models whose prompt is 'Instruct: {task}\nQuery:', put in place of the model's own. */
  readonly instruction?: string | undefined
  readonly truncation: Truncation
  /** Default true for pooled output, false for tokens. */
  readonly normalize?: boolean | undefined
  /** Matryoshka cut; default all. */
  readonly dimensions?: number | undefined
  /** 'tokens' gives one row a token. Default 'pooled'. */
  readonly output?: 'pooled' | 'tokens'
  readonly timeoutMs?: number | undefined
  /** 'high' goes before 'normal', which ages and is never starved. Default 'normal'. */
  readonly priority?: Priority | undefined
  readonly signal?: AbortSignal | undefined
  /** Comes back in the telemetry of this request, so that a subscriber knows whose it is. */
  readonly origin?: object | undefined
}

export interface EmbedResponse {
  /** One an input, in order: f32 [dimensions], or [tokens x dimensions] row-major for output 'tokens'. */
  readonly vectors: readonly Float32Array[]
  readonly dimensions: number
  /** Tokens that went through the model. */
  readonly tokens: number
  readonly truncatedInputs: number
  /** Tokens cut from all inputs together. */
  readonly truncatedTokens: number
  readonly tokenizeMs: number
  readonly queueMs: number
  readonly inferenceMs: number
  readonly batches: readonly RequestBatch[]
}

/** What the queue holds now. */
export interface QueueState {
  /** Accepted and not yet answered. */
  readonly requests: number
  /** Tokens of those requests, estimated while they are being tokenised. */
  readonly tokens: number
  /** Inputs that wait for a batch. */
  readonly waitingInputs: number
}

export interface PipelineLimits extends QueueLimits, BatchLimits {
  readonly requestTimeoutMs: number
  /** Most bytes of the vectors of one request with output 'tokens'. */
  readonly maxTokenOutputBytes: number
}

export interface PipelineParts {
  readonly spec: ModelSpec
  readonly tokenizer: Tokenizer
  readonly engine: Engine & { readonly isHealthy?: boolean }
  /** Starts the same model at a higher precision, for texts whose vectors were not finite; undefined: there is none. */
  readonly createHigherPrecision?: (() => Promise<Engine>) | undefined
}

/** How far a request came. */
interface RequestProgress {
  /** When it was tokenised and waited for a batch. */
  queuedMs: number | undefined
}

/** English in the vocabularies of BERT and Qwen has 4 to 5 characters a token. */
const charsPerToken = 4

export class EmbeddingPipeline implements AsyncDisposable {
  readonly spec: ModelSpec
  readonly engine: Engine
  readonly tokenizer: Tokenizer
  readonly #parts: PipelineParts
  readonly #queue: RequestQueue
  readonly #requestTimeoutMs: number
  readonly #maxTokenOutputBytes: number
  readonly #clock: Clock
  #higherPrecision: Promise<Engine> | undefined

  /** Takes over the tokenizer and the engine: both are disposed with the pipeline. */
  constructor(parts: PipelineParts, limits: PipelineLimits, clock: Clock = systemClock) {
    this.#parts = parts
    this.spec = parts.spec
    this.tokenizer = parts.tokenizer
    this.engine = parts.engine
    this.#requestTimeoutMs = limits.requestTimeoutMs
    this.#maxTokenOutputBytes = limits.maxTokenOutputBytes
    this.#clock = clock
    const costs = new BatchCostModel()
    this.#queue = new RequestQueue(limits, clock, (tokens) =>
      costs.predictDrainMs(tokens, limits.concurrency),
    )
    const processing = {
      source: this,
      engine: parts.engine,
      clock,
      higherPrecision: () => this.#startHigherPrecision(),
    }
    startBatching(this.#queue, limits, clock, costs, (batch, exclusive) =>
      processBatch(batch, processing, exclusive),
    )
  }

  get queueState(): QueueState {
    const { requestCount, tokenCount, waitingCount } = this.#queue
    return { requests: requestCount, tokens: tokenCount, waitingInputs: waitingCount }
  }

  /** False while a dead engine is being replaced. */
  get isHealthy(): boolean {
    return this.#parts.engine.isHealthy ?? true
  }

  /** Why any normal request would be refused now; undefined while there is room. Costs next to nothing. */
  get refusal(): EmbedError | undefined {
    return this.#queue.refusal
  }

  /** @throws {EmbedError} EMPTY_INPUT, INPUT_TOO_LONG, TEXT_TOO_LARGE, INVALID_TOKEN_ID, INVALID_DIMENSIONS, UNKNOWN_PROMPT,
   * INSTRUCTION_NOT_SUPPORTED, QUEUE_FULL, REQUEST_TOO_LARGE, TOKEN_OUTPUT_TOO_LARGE, REQUEST_TIMEOUT, REQUEST_CANCELLED, SHUTTING_DOWN,
   * ENGINE_FAILED, … */
  async embed(request: EmbedRequest): Promise<EmbedResponse> {
    const startMs = this.#clock.nowMs()
    const progress: RequestProgress = { queuedMs: undefined }
    let response: EmbedResponse | undefined
    let outcome = 'ok'
    try {
      response = await this.#embed(request, startMs, progress)
      return response
    } catch (error) {
      outcome = error instanceof EmbedError ? error.code : 'INTERNAL'
      throw error
    } finally {
      if (requestDone.hasSubscribers) {
        const nowMs = this.#clock.nowMs()
        const hasGivenUp = outcome === 'REQUEST_TIMEOUT' || outcome === 'REQUEST_CANCELLED'
        const { queuedMs } = progress
        const givenUpMs = hasGivenUp && queuedMs !== undefined ? nowMs - queuedMs : undefined
        requestDone.publish({
          source: this,
          origin: request.origin,
          inputs: request.inputs.length,
          tokens: response?.tokens ?? 0,
          startedMs: startMs,
          durationMs: nowMs - startMs,
          outcome,
          priority: request.priority ?? 'normal',
          tokenizeMs: response?.tokenizeMs,
          queueWaitMs: response?.queueMs ?? givenUpMs,
          inferenceMs: response?.inferenceMs,
          truncatedInputs: response?.truncatedInputs,
          truncatedTokens: response?.truncatedTokens,
          batches: response?.batches,
        })
      }
    }
  }

  async #embed(request: EmbedRequest, startMs: number, progress: RequestProgress): Promise<EmbedResponse> {
    const output = request.output ?? 'pooled'
    const { dimensions: fullDimensions } = this.spec
    const dimensions = request.dimensions ?? fullDimensions
    this.#check(request, dimensions, output)
    const timeoutMs = request.timeoutMs ?? this.#requestTimeoutMs

    const { priority } = request
    const place = this.#queue.reserve(this.#estimateTokens(request.inputs), priority)
    let tokenized: TokenizedInput[]
    let tokens: number
    try {
      tokenized = await this.#tokenize(request)
      tokens = tokenized.reduce((sum, { ids }) => sum + ids.length, 0)
      if (output === 'tokens') this.#checkTokenOutput(tokens)
    } catch (error) {
      place.release()
      throw error
    }
    const sequences = tokenized.map((input) => input.ids)
    const cut = tokenized.filter((input) => input.totalTokens > input.ids.length)
    const tokenizedMs = this.#clock.nowMs()
    progress.queuedMs = tokenizedMs
    if (tokenizeDone.hasSubscribers) {
      tokenizeDone.publish({
        source: this,
        origin: request.origin,
        texts: sequences.length,
        tokens,
        truncatedTexts: cut.length,
        startedMs: startMs,
        durationMs: tokenizedMs - startMs,
      })
    }

    const { rows, queueMs, inferenceMs, batches } = await place.submit(sequences, {
      output,
      priority,
      timeoutMs: Math.max(0, timeoutMs - (tokenizedMs - startMs)),
      signal: request.signal,
    })
    const normalize = request.normalize ?? output === 'pooled'
    const vectors = rows.map((row) => {
      const count = row.length / fullDimensions
      if (dimensions < fullDimensions)
        return truncateDimensions(row, count, fullDimensions, dimensions, normalize)
      if (normalize) normalizeRows(row, count, dimensions)
      return row
    })
    return {
      vectors,
      dimensions,
      tokens,
      truncatedInputs: cut.length,
      truncatedTokens: cut.reduce((sum, input) => sum + input.totalTokens - input.ids.length, 0),
      tokenizeMs: tokenizedMs - startMs,
      queueMs,
      inferenceMs,
      batches,
    }
  }

  #check(request: EmbedRequest, dimensions: number, output: 'pooled' | 'tokens'): void {
    const { inputs } = request
    if (inputs.length === 0) throw new EmbedError('EMPTY_INPUT', {})
    for (const [index, input] of inputs.entries()) {
      if (input.length === 0) throw new EmbedError('EMPTY_INPUT', { index })
    }
    const maxDimensions = this.spec.dimensions
    if (!Number.isInteger(dimensions) || dimensions < 1 || dimensions > maxDimensions) {
      throw new EmbedError('INVALID_DIMENSIONS', { dimensions, maxDimensions })
    }
    if (!this.engine.info.outputs.includes(output)) {
      throw new EmbedError('OUTPUT_NOT_SUPPORTED', { engine: this.engine.info.name, output })
    }
  }

  #checkTokenOutput(tokens: number): void {
    const outputBytes = tokens * this.spec.dimensions * Float32Array.BYTES_PER_ELEMENT
    const maxTokenOutputBytes = this.#maxTokenOutputBytes
    if (outputBytes > maxTokenOutputBytes)
      throw new EmbedError('TOKEN_OUTPUT_TOO_LARGE', { tokens, outputBytes, maxTokenOutputBytes })
  }

  /** From the length of the texts, so that what a full queue refuses costs no tokenisation. */
  #estimateTokens(inputs: readonly EmbeddingInput[]): number {
    const { maxTokens } = this.spec
    return inputs.reduce((sum, input) => {
      const tokens = typeof input === 'string' ? Math.ceil(input.length / charsPerToken) + 2 : input.length
      return sum + Math.min(maxTokens, tokens)
    }, 0)
  }

  async #startHigherPrecision(): Promise<Engine | undefined> {
    const { createHigherPrecision } = this.#parts
    if (createHigherPrecision === undefined) return undefined
    this.#higherPrecision ??= createHigherPrecision()
    return this.#higherPrecision.catch((error: unknown) => {
      this.#higherPrecision = undefined
      throw error
    })
  }

  async #tokenize(request: EmbedRequest): Promise<TokenizedInput[]> {
    const prompt = choosePrompt(this.spec, request)
    const { inputs, truncation } = request
    const { maxTokens } = this.spec
    const texts: string[] = []
    const textIndexes: number[] = []
    const tokenized: TokenizedInput[] = Array.from({ length: inputs.length })
    for (const [index, input] of inputs.entries()) {
      if (typeof input === 'string') {
        texts.push(prompt + input)
        textIndexes.push(index)
      } else tokenized[index] = this.#takeIds(input, index, truncation)
    }
    if (texts.length === 0) return tokenized
    try {
      const encoded = await this.tokenizer.encode(texts, { maxTokens, truncation })
      for (const [i, input] of encoded.entries()) tokenized[textIndexes[i]!] = input
    } catch (error) {
      if (!(error instanceof EmbedError)) throw error
      const { code, details } = error as EmbedError<'INPUT_TOO_LONG' | 'TEXT_TOO_LARGE'>
      if (code !== 'INPUT_TOO_LONG' && code !== 'TEXT_TOO_LARGE') throw error
      // The tokenizer counts within the texts that it was given.
      throw new EmbedError(code, { ...details, index: textIndexes[details.index]! }, { cause: error })
    }
    return tokenized
  }

  #takeIds(input: readonly number[], index: number, truncation: Truncation): TokenizedInput {
    const { maxTokens, vocabularySize } = this.spec
    for (const tokenId of input) {
      if (!Number.isInteger(tokenId) || tokenId < 0 || tokenId >= vocabularySize) {
        throw new EmbedError('INVALID_TOKEN_ID', { index, tokenId, vocabularySize })
      }
    }
    const totalTokens = input.length
    if (totalTokens <= maxTokens) return { ids: Int32Array.from(input), totalTokens }
    if (truncation === 'none')
      throw new EmbedError('INPUT_TOO_LONG', { index, tokens: totalTokens, maxTokens })
    const start = truncation === 'left' ? totalTokens - maxTokens : 0
    return { ids: Int32Array.from(input.slice(start, start + maxTokens)), totalTokens }
  }

  /** Takes nothing new, waits for what was accepted, then frees the tokenizer and the engine. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#queue.close()
    await this.#queue.whenIdle()
    await this.tokenizer[Symbol.asyncDispose]()
    await this.engine[Symbol.asyncDispose]()
    const higherPrecision = await this.#higherPrecision?.catch(() => undefined)
    await higherPrecision?.[Symbol.asyncDispose]()
  }
}
