/** Below this a prediction is of one batch rather than of a queue, and its error says nothing about queues. */
const leastPredictedMs = 20
/** Step of the quantile estimate: about 100 requests to follow a change. */
const step = 0.05
const quantile = 0.95

/** Compares predicted with real times: 95 of 100 requests are done within prediction x factor.
 * A stochastic quantile estimate: up by much when a request was later, down by little when it was not. */
export class PredictionCheck {
  #factor = 1

  observe(predictedMs: number, actualMs: number): void {
    if (predictedMs < leastPredictedMs) return
    const isLater = actualMs > predictedMs * this.#factor
    // Never below 1: a queue that was emptier than promised is no promise for a full one.
    this.#factor = Math.max(1, this.#factor + (isLater ? step * quantile : -step * (1 - quantile)))
  }

  /** The time within which 95 of 100 such requests are done. */
  toP95Ms(predictedMs: number): number {
    return predictedMs * this.#factor
  }
}
