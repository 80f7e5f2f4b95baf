import { access, constants } from 'node:fs/promises'
import type { Encoding, Tokenizer as Library } from '@anush008/tokenizers'
import { EmbedError, toReason } from '../../errors.ts'
import { packEncodings, type EncodedText } from './packed-encoding.ts'
import type { TextToken, TokenizeOptions } from './tokenizer.ts'

/** A library call takes about this much text: it bounds the memory of the call (about 400 bytes a character at worst). */
const CALL_CHARS = 65_536
/** Larger calls wait for each other: each holds one of libuv's few threads, which inference needs too. */
const QUICK_CALL_CHARS = 8_192

/** The library (Rust `tokenizers`) on one tokenizer.json, with truncation told. Its calls run on libuv's threads.
 * Lone surrogates count as U+FFFD (N-API's conversion). The file's own truncation and padding never apply. */
export class TokenizerCore {
  readonly #library: Library
  readonly #prefix: readonly number[]
  readonly #suffix: readonly number[]
  #lastLargeCall: Promise<unknown> = Promise.resolve()

  private constructor(library: Library, prefix: readonly number[], suffix: readonly number[]) {
    this.#library = library
    this.#prefix = prefix
    this.#suffix = suffix
  }

  /** @throws {EmbedError} FILE_UNREADABLE, MODEL_FILE_CORRUPT, TOKENIZER_FAILED (no library for this platform) */
  static async load(path: string): Promise<TokenizerCore> {
    try {
      await access(path, constants.R_OK)
    } catch (error) {
      throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(error) }, { cause: error })
    }
    const { Tokenizer } = await import('@anush008/tokenizers').catch((error: unknown) => {
      const reason = `the native library does not load: ${toReason(error)}`
      throw new EmbedError('TOKENIZER_FAILED', { reason }, { cause: error })
    })
    let library: Library
    try {
      library = Tokenizer.fromFile(path)
    } catch (error) {
      const reason = toReason(error).replace(/^Error loading from file/, '')
      throw new EmbedError('MODEL_FILE_CORRUPT', { file: path, reason }, { cause: error })
    }
    library.disableTruncation()
    library.disablePadding()
    const { prefix, suffix } = await findSpecialTokens(library)
    return new TokenizerCore(library, prefix, suffix)
  }

  /** Special tokens around a text: the least `maxTokens` when they are added. */
  get specialTokenCount(): number {
    return this.#prefix.length + this.#suffix.length
  }

  /** A text that is too long is cut ('left', 'right') or comes back without ids ('none').
   * @returns the layout of packed-encoding.ts, caller owns   @throws {EmbedError} TOKENIZER_FAILED */
  async encode(texts: readonly string[], options: TokenizeOptions): Promise<Int32Array<ArrayBuffer>> {
    const encoded: EncodedText[] = []
    for (const call of toCalls(texts)) {
      for (const encoding of await this.#call(call)) encoded.push(this.#cut(encoding, options))
    }
    return packEncodings(encoded)
  }

  /** @throws {EmbedError} TOKENIZER_FAILED */
  async inspect(text: string, addSpecialTokens: boolean): Promise<TextToken[]> {
    try {
      return toTextTokens(await this.#library.encode(text, null, { addSpecialTokens }), text)
    } catch (error) {
      throw new EmbedError('TOKENIZER_FAILED', { reason: toReason(error) }, { cause: error })
    }
  }

  /** @throws {EmbedError} TOKENIZER_FAILED */
  async decode(ids: Int32Array, skipSpecialTokens: boolean): Promise<string> {
    if (ids.length === 0) return ''
    try {
      return await this.#library.decode([...ids], skipSpecialTokens)
    } catch (error) {
      throw new EmbedError('TOKENIZER_FAILED', { reason: toReason(error) }, { cause: error })
    }
  }

  async #call(texts: string[]): Promise<Encoding[]> {
    try {
      if (countChars(texts) <= QUICK_CALL_CHARS) return await encodeBody(this.#library, texts)
      const call = this.#lastLargeCall.then(() => encodeBody(this.#library, texts))
      this.#lastLargeCall = call.catch(() => undefined)
      return await call
    } catch (error) {
      throw new EmbedError('TOKENIZER_FAILED', { reason: toReason(error) }, { cause: error })
    }
  }

  #cut(encoding: Encoding, { maxTokens, truncation, addSpecialTokens = true }: TokenizeOptions): EncodedText {
    const prefix = addSpecialTokens ? this.#prefix : []
    const suffix = addSpecialTokens ? this.#suffix : []
    const bodyTokens = encoding.getLength()
    const totalTokens = prefix.length + bodyTokens + suffix.length
    const tooMany = totalTokens - maxTokens
    if (tooMany > 0 && truncation === 'none') return { ids: [], totalTokens }
    let body = encoding.getIds()
    if (tooMany > 0) body = truncation === 'left' ? body.slice(tooMany) : body.slice(0, bodyTokens - tooMany)
    return { ids: prefix.length + suffix.length > 0 ? [...prefix, ...body, ...suffix] : body, totalTokens }
  }
}

function toTextTokens(encoding: Encoding, text: string): TextToken[] {
  const tokens = encoding.getTokens()
  const offsets = encoding.getOffsets()
  const specialTokensMask = encoding.getSpecialTokensMask()
  // The library counts in code points.
  const characters = Array.from(text)
  const byteStarts = new Int32Array(characters.length + 1)
  for (const [i, character] of characters.entries()) {
    byteStarts[i + 1] = byteStarts[i]! + Buffer.byteLength(character)
  }
  return encoding.getIds().map((id, i) => {
    if (specialTokensMask[i] === 1) return { id, text: tokens[i]!, special: true, byteRange: undefined }
    const [start, stop] = offsets[i] as [number, number]
    const byteRange = [byteStarts[start]!, byteStarts[stop]!] as const
    return { id, text: characters.slice(start, stop).join(''), special: false, byteRange }
  })
}

export function countChars(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + text.length, 0)
}

/** One text without the library's own threads, one for each core: waking them takes longer than the text. */
async function encodeBody(library: Library, texts: string[]): Promise<Encoding[]> {
  const options = { addSpecialTokens: false }
  if (texts.length === 1) return [await library.encode(texts[0]!, null, options)]
  return library.encodeBatch(texts, options)
}

/** Neighbours in one call up to CALL_CHARS; a longer text is a call of its own. */
function toCalls(texts: readonly string[]): string[][] {
  const calls: string[][] = []
  let chars = Infinity
  for (const text of texts) {
    chars += text.length
    if (chars <= CALL_CHARS) calls.at(-1)!.push(text)
    else {
      calls.push([text])
      chars = text.length
    }
  }
  return calls
}

/** What the post-processor puts before and after a text. Asking it spares us reading six kinds of post-processor. */
async function findSpecialTokens(library: Library): Promise<{ prefix: number[]; suffix: number[] }> {
  const probe = 'a'
  const body = (await library.encode(probe, null, { addSpecialTokens: false })).getIds()
  const whole = (await library.encode(probe, null, { addSpecialTokens: true })).getIds()
  for (let start = 0; body.length > 0 && start + body.length <= whole.length; start++) {
    if (body.every((id, i) => id === whole[start + i])) {
      return { prefix: whole.slice(0, start), suffix: whole.slice(start + body.length) }
    }
  }
  const reason = `its ids for '${probe}' are ${body.join(' ')}, with special tokens ${whole.join(' ')}: these do not hold the first`
  throw new EmbedError('TOKENIZER_FAILED', { reason })
}
