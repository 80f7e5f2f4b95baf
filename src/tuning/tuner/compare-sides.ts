/** Is a candidate faster than the incumbent? Both are measured in turn until that is clear, or the patience is over. */
import { signedRankInterval } from './signed-rank.ts'

export interface SidesVerdict {
  /** 'equal': no difference shown within the pairs allowed. */
  readonly verdict: 'better' | 'worse' | 'equal'
  /** Score of the candidate by that of the incumbent, with the interval of the look that decided. */
  readonly ratio: number
  readonly low: number
  readonly high: number
  readonly pairs: number
}

/** After so many pairs the test is made, at so small a level that all looks together are wrong about two equal sides in
 * under one run of twenty; compare-sides.test.ts shows it by simulation at the noise of recorded runs. */
export const looks: readonly {
  readonly pairs: number
  readonly alpha: number
  /** Log ratio below which it is not worth going on: a gain of 3 % would seldom look so small. */
  readonly hopeless: number
}[] = [
  { pairs: 8, alpha: 0.0079, hopeless: -Infinity },
  { pairs: 12, alpha: 0.005, hopeless: -0.01 },
  { pairs: 16, alpha: 0.007, hopeless: 0 },
  { pairs: 24, alpha: 0.011, hopeless: 0.005 },
  { pairs: 32, alpha: 0.014, hopeless: 0.007 },
  { pairs: 48, alpha: 0.02, hopeless: 0.009 },
  { pairs: 64, alpha: 0.03, hopeless: Infinity },
]

/** @param measurePair log of candidate / incumbent of one pair of rounds; more is better. Rounds of the two sides in turn,
 * the first one alternating */
export async function compareSides(
  measurePair: (pair: number) => Promise<number>,
  options: {
    readonly maxPairs?: number | undefined
    /** Asked with the log ratio of now where no difference is shown yet: true ends it there, as equal. That can only lose a
     * gain, never invent one. */
    readonly isOver?: ((estimate: number) => boolean) | undefined
  } = {},
): Promise<SidesVerdict> {
  const differences: number[] = []
  const { maxPairs = looks.at(-1)!.pairs } = options
  const allowed = looks.filter(({ pairs }) => pairs <= maxPairs)
  for (const { pairs, alpha, hopeless } of allowed) {
    while (differences.length < pairs) differences.push(await measurePair(differences.length))
    const { estimate, low, high } = signedRankInterval(differences, alpha)
    const toVerdict = (verdict: SidesVerdict['verdict']): SidesVerdict => {
      return { verdict, ratio: Math.exp(estimate), low: Math.exp(low), high: Math.exp(high), pairs }
    }
    if (low > 0) return toVerdict('better')
    if (high < 0) return toVerdict('worse')
    if (estimate < hopeless || pairs === allowed.at(-1)!.pairs || options.isOver?.(estimate) === true)
      return toVerdict('equal')
  }
  throw new RangeError(`maxPairs is ${maxPairs}; at least ${looks[0]!.pairs} pairs are needed`)
}
