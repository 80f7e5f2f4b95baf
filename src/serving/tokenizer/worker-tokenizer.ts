import { Worker } from 'node:worker_threads'
import { EmbedError } from '../../errors.ts'
import { unpackEncodings } from './packed-encoding.ts'
import { countChars, TokenizerCore } from './tokenizer-core.ts'
import type { TextToken, TokenizedInput, TokenizeOptions, Tokenizer } from './tokenizer.ts'
import { WorkerSlot, type WorkerStart } from './worker-slot.ts'

/** Below this a list is not worth splitting. */
const PART_CHARS = 32_768

export interface TokenizerOptions {
  /** A Hugging Face tokenizer.json. */
  readonly tokenizerPath: string
  /** Threads for large requests; 0 needs no thread: the library computes on libuv's threads, only the copying of
   * the ids (0.1 us a token) stays on the calling one. Default 1. */
  readonly workerCount?: number
  /** A list with at most this many characters takes the way of workerCount 0, which answers sooner. Default 4096. */
  readonly inlineChars?: number
  /** A longer text is refused, since it needs up to 400 bytes of memory a character. Default 2,000,000. */
  readonly maxTextChars?: number
  /** Internal: how a thread is made. The default needs the built package. */
  readonly createWorker?: () => Worker
}

/** Text to ids by one tokenizer.json; counts every token of a text, and computes off the caller's thread.
 * Loading does block it: 20 ms for a BERT vocabulary, 0.5 s for one of 150,000 tokens.
 * @returns the owner of the threads: dispose it; requests then under way fail with TOKENIZER_FAILED
 * @throws {EmbedError} FILE_UNREADABLE, MODEL_FILE_CORRUPT, TOKENIZER_FAILED
 * `await using tokenizer = await createTokenizer({ tokenizerPath: './minilm/tokenizer.json' })` */
export async function createTokenizer(options: TokenizerOptions): Promise<Tokenizer> {
  const { tokenizerPath, workerCount = 1, inlineChars = 4_096, maxTextChars = 2_000_000 } = options
  const { createWorker = () => createTokenizerThread(tokenizerPath) } = options
  const core = await TokenizerCore.load(tokenizerPath)
  // A thread starts with the first request for it: one that never comes saves its 15 MiB.
  const slots = Array.from({ length: workerCount }, () => new WorkerSlot(createWorker))
  return new WorkerTokenizer(core, slots, { inlineChars, maxTextChars })
}

class WorkerTokenizer implements Tokenizer {
  readonly #core: TokenizerCore
  readonly #slots: readonly WorkerSlot[]
  readonly #inlineChars: number
  readonly #maxTextChars: number
  #disposed = false

  constructor(
    core: TokenizerCore,
    slots: readonly WorkerSlot[],
    limits: { inlineChars: number; maxTextChars: number },
  ) {
    this.#core = core
    this.#slots = slots
    this.#inlineChars = limits.inlineChars
    this.#maxTextChars = limits.maxTextChars
  }

  async encode(texts: readonly string[], options: TokenizeOptions): Promise<TokenizedInput[]> {
    this.#check(texts, options)
    const inputs = await this.#run(texts, options)
    if (options.truncation === 'none') {
      const { maxTokens } = options
      const index = inputs.findIndex((input) => input.totalTokens > maxTokens)
      if (index >= 0) {
        throw new EmbedError('INPUT_TOO_LONG', { index, tokens: inputs[index]!.totalTokens, maxTokens })
      }
    }
    return inputs
  }

  async inspect(text: string, options: { addSpecialTokens?: boolean } = {}): Promise<TextToken[]> {
    this.#refuseDisposed()
    return this.#core.inspect(text, options.addSpecialTokens ?? true)
  }

  async decode(ids: Int32Array, options: { skipSpecialTokens?: boolean } = {}): Promise<string> {
    this.#refuseDisposed()
    return this.#core.decode(ids, options.skipSpecialTokens ?? false)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true
    await Promise.all(this.#slots.map((slot) => slot[Symbol.asyncDispose]()))
  }

  #check(texts: readonly string[], { maxTokens, addSpecialTokens = true }: TokenizeOptions): void {
    this.#refuseDisposed()
    const least = addSpecialTokens ? this.#core.specialTokenCount : 0
    if (!(maxTokens >= least)) {
      const reason = `maxTokens is ${maxTokens}, the special tokens alone are ${least}`
      throw new EmbedError('TOKENIZER_FAILED', { reason })
    }
    const index = texts.findIndex((text) => text.length > this.#maxTextChars)
    if (index >= 0) {
      throw new EmbedError('TEXT_TOO_LARGE', {
        index,
        chars: texts[index]!.length,
        maxTextChars: this.#maxTextChars,
      })
    }
  }

  #refuseDisposed(): void {
    if (this.#disposed) throw new EmbedError('TOKENIZER_FAILED', { reason: 'the tokenizer is disposed' })
  }

  async #run(texts: readonly string[], options: TokenizeOptions): Promise<TokenizedInput[]> {
    const chars = countChars(texts)
    if (this.#slots.length === 0 || chars <= this.#inlineChars) {
      return unpackEncodings(await this.#core.encode(texts, options), texts.length)
    }
    const parts = splitByChars(texts, Math.max(PART_CHARS, chars / this.#slots.length))
    const encoded = await Promise.all(
      parts.map(async (part) =>
        unpackEncodings(await this.#leastBusySlot().encode(part, options), part.length),
      ),
    )
    return encoded.flat()
  }

  #leastBusySlot(): WorkerSlot {
    return this.#slots.reduce((least, slot) => (slot.busyChars < least.busyChars ? slot : least))
  }
}

/** Neighbouring texts together until a part has `partChars`. */
function splitByChars(texts: readonly string[], partChars: number): string[][] {
  const parts: string[][] = [[]]
  let chars = 0
  for (const text of texts) {
    if (chars >= partChars) {
      parts.push([])
      chars = 0
    }
    parts.at(-1)!.push(text)
    chars += text.length
  }
  return parts
}

function createTokenizerThread(tokenizerPath: string): Worker {
  const workerData: WorkerStart = { tokenizerPath }
  // No execArgv: flags of the process (--input-type, a loader of a test runner) are not for this file.
  return new Worker(new URL('./tokenizer-worker.js', import.meta.url), { workerData, execArgv: [] })
}
