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

export interface Tokenizer extends AsyncDisposable {
  /** One result a text, in order.
   * @throws {EmbedError} INPUT_TOO_LONG (truncation 'none'; `index` is the place in `texts`), TOKENIZER_FAILED */
  encode(texts: readonly string[], options: TokenizeOptions): Promise<TokenizedInput[]>
  decode(ids: Int32Array, options?: { skipSpecialTokens?: boolean }): Promise<string>
}
