/** Wilcoxon's signed-rank test with its interval (Hodges and Lehmann 1963). Of two sides measured in turn the difference
 * is as likely up as down when they are equal, and that is all this test needs: neither a normal distribution nor a
 * quiet machine, and one stalled round cannot decide. */

export interface SignedRankInterval {
  /** Pseudo-median of the differences: the median of the means of all pairs of them. */
  readonly estimate: number
  readonly low: number
  readonly high: number
}

/** Interval that leaves out the true shift with probability `alpha` at most; from -Infinity to Infinity where so few
 * differences cannot tell. */
export function signedRankInterval(differences: readonly number[], alpha: number): SignedRankInterval {
  const means = new Float64Array((differences.length * (differences.length + 1)) / 2)
  let next = 0
  for (const [i, a] of differences.entries()) {
    for (let k = i; k < differences.length; k++) means[next++] = (a + differences[k]!) / 2
  }
  means.sort()
  const middle = means.length >> 1
  const estimate = means.length % 2 === 1 ? means[middle]! : (means[middle - 1]! + means[middle]!) / 2
  const left = countLeft(differences.length, alpha)
  if (left === 0) return { estimate, low: -Infinity, high: Infinity }
  return { estimate, low: means[left - 1]!, high: means[means.length - left]! }
}

/** How many of the sorted means lie outside at each end: the most for which both ends together have probability alpha. */
function countLeft(count: number, alpha: number): number {
  const probabilities = rankSumProbabilities(count)
  let sum = 0
  let left = 0
  while (left < probabilities.length && sum + probabilities[left]! <= alpha / 2) sum += probabilities[left++]!
  return left
}

const known = new Map<number, readonly number[]>()

/** Probability of each sum of the ranks 1 to `count`, each taken or not with equal chance. */
function rankSumProbabilities(count: number): readonly number[] {
  const made = known.get(count)
  if (made !== undefined) return made
  let probabilities = [1]
  for (let rank = 1; rank <= count; rank++) {
    const next = Array.from({ length: probabilities.length + rank }, () => 0)
    for (const [sum, probability] of probabilities.entries()) {
      next[sum]! += probability / 2
      next[sum + rank]! += probability / 2
    }
    probabilities = next
  }
  known.set(count, probabilities)
  return probabilities
}
