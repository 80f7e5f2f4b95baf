/** Many tokenised texts in one buffer, so that a thread hands them over in one transfer.
 * Layout, i32: totals [textCount], lengths [textCount], then the ids end to end. */
import type { TokenizedInput } from './tokenizer.ts'

export interface EncodedText {
  readonly ids: readonly number[]
  readonly totalTokens: number
}

/** @returns i32 [2 * textCount + tokens], caller owns */
export function packEncodings(encodings: readonly EncodedText[]): Int32Array<ArrayBuffer> {
  const textCount = encodings.length
  const tokens = encodings.reduce((sum, { ids }) => sum + ids.length, 0)
  const packed = new Int32Array(2 * textCount + tokens)
  let offset = 2 * textCount
  for (const [index, { ids, totalTokens }] of encodings.entries()) {
    packed[index] = totalTokens
    packed[textCount + index] = ids.length
    packed.set(ids, offset)
    offset += ids.length
  }
  return packed
}

/** @param packed borrowed: the ids of the results are views into it */
export function unpackEncodings(packed: Int32Array, textCount: number): TokenizedInput[] {
  let offset = 2 * textCount
  return Array.from({ length: textCount }, (_, index) => {
    const start = offset
    offset += packed[textCount + index]!
    return { ids: packed.subarray(start, offset), totalTokens: packed[index]! }
  })
}
