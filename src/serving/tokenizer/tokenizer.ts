/** The contract of the tokenizer stage. */

export const truncations = ['none', 'right', 'left'] as const
/** 'right' drops the end of the text, 'left' its beginning, 'none' refuses a text that is too long. */
export type Truncation = (typeof truncations)[number]

export interface TokenizeOptions {
  /** Longest result in tokens, special tokens included. */
  readonly maxTokens: number
  readonly truncation: Truncation
  /** Default true. */
  readonly addSpecialTokens?: boolean
}

export interface TokenizedInput {
  readonly ids: Int32Array
  /** Tokens of the whole text, special tokens included; larger than ids.length when it was cut. */
  readonly totalTokens: number
}

/** One token of a text, for people who look at a tokenizer. */
export interface TextToken {
  readonly id: number
  /** What it stands for in the text; a special token's own name. */
  readonly text: string
  /** Added by the tokenizer: stands for nothing in the text. */
  readonly special: boolean
  /** UTF-8 bytes of the text, from start to before stop; undefined for a special token. */
  readonly byteRange: readonly [start: number, stop: number] | undefined
}

export interface Tokenizer extends AsyncDisposable {
  /** One result a text, in order.
   * @throws {EmbedError} INPUT_TOO_LONG (truncation 'none'; `index` is the place in `texts`), TEXT_TOO_LARGE,
   * TOKENIZER_FAILED */
  encode(texts: readonly string[], options: TokenizeOptions): Promise<TokenizedInput[]>
  /** @throws {EmbedError} TOKENIZER_FAILED */
  inspect(text: string, options?: { addSpecialTokens?: boolean }): Promise<TextToken[]>
  decode(ids: Int32Array, options?: { skipSpecialTokens?: boolean }): Promise<string>
}
