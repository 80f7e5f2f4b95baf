/** What goes into a batch: the oldest input of a line and its neighbours in length. */
import type { QueuedInput } from './queue.ts'
import type { WaitingLine } from './waiting-line.ts'

export interface SelectionLimits {
  readonly maxBatchSize: number
  /** Bound of batch size x longest sequence; a single input may exceed it. */
  readonly maxBatchTokens: number
  /** A batch that has so many tokens is large enough: the rest is left to the engine's other places. */
  readonly enoughTokens?: number
}

/** Share of a batch that may be padding, and tokens that are always allowed: a batch of its own costs more than
 * padding 64 tokens away (MiniLM on two cores: 1.2 ms for an empty pass, 1.1 ms for 64 tokens). */
const maxPaddingRatio = 0.2
const freePaddingTokens = 64

/** @param line not empty */
export function selectBatch(line: WaitingLine, limits: SelectionLimits): QueuedInput[] {
  const oldest = line.oldest!
  const { maxBatchSize, maxBatchTokens, enoughTokens = Infinity } = limits
  const batch = [oldest]
  let tokens = oldest.ids.length
  let shortest = tokens
  let longest = tokens

  const fits = (added: QueuedInput): boolean => {
    const padded = (batch.length + 1) * Math.max(longest, added.ids.length)
    const padding = padded - tokens - added.ids.length
    return padded <= maxBatchTokens && padding <= freePaddingTokens + maxPaddingRatio * padded
  }
  const shorterOnes = line.atMost(tokens)
  const longerOnes = line.moreThan(tokens)
  const nextShorter = (): QueuedInput | undefined => {
    const next = shorterOnes.next().value
    return next === oldest ? shorterOnes.next().value : next
  }
  let shorter = nextShorter()
  let longer = longerOnes.next().value
  while (batch.length < maxBatchSize && tokens < enoughTokens) {
    const takesShorter = shorter !== undefined && fits(shorter)
    const takesLonger = longer !== undefined && fits(longer)
    if (!takesShorter && !takesLonger) break
    // The side that is closer in length wastes less.
    const gapBelow = takesShorter ? shortest - shorter!.ids.length : Infinity
    const gapAbove = takesLonger ? longer!.ids.length - longest : Infinity
    const added = gapBelow <= gapAbove ? shorter! : longer!
    if (added === shorter) shorter = nextShorter()
    else longer = longerOnes.next().value
    batch.push(added)
    tokens += added.ids.length
    shortest = Math.min(shortest, added.ids.length)
    longest = Math.max(longest, added.ids.length)
  }
  return batch
}
