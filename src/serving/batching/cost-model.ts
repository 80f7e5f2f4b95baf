/** Weight of the past at each new batch: about the last 40 batches count. */
const decay = 0.975
/** Spread of the batch tokens (standard deviation over mean) below which fixed and growing cost cannot be told apart. */
const leastSpread = 0.1
const leastBatches = 8
/** What a batch costs, learnt from those that ran: milliseconds = fixed + perToken x tokens (weighted least squares). */
export class BatchCostModel {
  #batches = 0
  #weight = 0
  #tokens = 0
  #ms = 0
  #tokensSquared = 0
  #tokensMs = 0
  #fixedMs = 0
  #msPerToken = 0

  observe(tokens: number, ms: number): void {
    this.#batches++
    this.#weight = decay * this.#weight + 1
    this.#tokens = decay * this.#tokens + tokens
    this.#ms = decay * this.#ms + ms
    this.#tokensSquared = decay * this.#tokensSquared + tokens * tokens
    this.#tokensMs = decay * this.#tokensMs + tokens * ms
    const meanTokens = this.#tokens / this.#weight
    const meanMs = this.#ms / this.#weight
    const variance = this.#tokensSquared / this.#weight - meanTokens * meanTokens
    if (variance > (leastSpread * meanTokens) ** 2) {
      const slope = (this.#tokensMs / this.#weight - meanTokens * meanMs) / variance
      this.#fixedMs = Math.min(meanMs, Math.max(0, meanMs - slope * meanTokens))
    }
    // With batches of one size only the last known fixed cost stays, and the rest of the time is the tokens'.
    this.#fixedMs = Math.min(this.#fixedMs, meanMs)
    this.#msPerToken = (meanMs - this.#fixedMs) / meanTokens
  }

  get isKnown(): boolean {
    return this.#batches >= leastBatches
  }

  /** 0 until enough batches ran. */
  predictMs(tokens: number): number {
    return this.isKnown ? this.#fixedMs + this.#msPerToken * tokens : 0
  }

  /** What a batch costs whatever it holds; 0 until enough batches ran. */
  get fixedMs(): number {
    return this.isKnown ? this.#fixedMs : 0
  }

  /** Time to work off `tokens` with `concurrency` batches at once; 0 until enough batches ran. */
  predictDrainMs(tokens: number, concurrency: number): number {
    return this.predictMs(tokens / concurrency)
  }

  /** Tokens from which on the fixed cost is at most `fixedCostShare` of a batch's time: filling it further gains less
   * than that. 0 until enough batches ran. */
  efficientTokens(fixedCostShare: number): number {
    if (!this.isKnown || this.#fixedMs === 0) return 0
    if (this.#msPerToken <= 0) return Infinity
    return (this.#fixedMs * (1 / fixedCostShare - 1)) / this.#msPerToken
  }

  /** Most tokens that a batch may have to be done within `ms`; Infinity until enough batches ran. */
  tokensWithin(ms: number): number {
    if (!this.isKnown || this.#msPerToken <= 0) return Infinity
    return Math.max(0, (ms - this.#fixedMs) / this.#msPerToken)
  }
}
