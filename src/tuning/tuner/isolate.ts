/** After a missed target: each change that was kept, alone on the baseline. Tells what helps by itself, what needs another
 * one first, and what hurts. */
import { toReason } from '../../errors.ts'
import { median } from '../measure/percentile.ts'
import { type SidesVerdict, compareSides } from './compare-sides.ts'
import { meanLogRatio } from './experiment.ts'
import { type Settings, type Side, type Slice, type StartSide, toSlice } from './side.ts'

export interface IsolatedChange {
  readonly change: Settings
  readonly outcome: SidesVerdict['verdict'] | 'failed' | 'not measured'
  readonly reason?: string
  readonly comparison?: SidesVerdict
  readonly slice?: Slice
}

export interface IsolateOptions {
  readonly changes: readonly Settings[]
  readonly settings: Settings
  readonly baseline: Side
  readonly start: StartSide
  readonly isOver?: () => boolean
  readonly signal?: AbortSignal | undefined
  readonly onChange?: (change: Settings) => void
}

/** Enough to tell a gain of 10 % on a quiet machine. */
const maxPairs = 12

/** @throws what the baseline's side throws, and the signal's reason */
export async function isolate(options: IsolateOptions): Promise<IsolatedChange[]> {
  const results: IsolatedChange[] = []
  for (const change of options.changes) {
    options.signal?.throwIfAborted()
    if (options.isOver?.() === true) {
      results.push({ change, outcome: 'not measured', reason: 'the time was up' })
      continue
    }
    options.onChange?.(change)
    results.push({ change, ...(await measureAlone(change, options)) })
  }
  return results
}

async function measureAlone(
  change: Settings,
  { settings, baseline, start, signal }: IsolateOptions,
): Promise<Omit<IsolatedChange, 'change'>> {
  let side: Side
  try {
    side = await start({ ...settings, ...change })
  } catch (error) {
    signal?.throwIfAborted()
    return { outcome: 'failed', reason: `does not start on the baseline: ${toReason(error)}` }
  }
  await using candidate = side
  const slices: Slice[] = []
  const comparison = await compareSides(
    async (pair) => {
      signal?.throwIfAborted()
      if (pair % 2 === 1) slices.push(await candidate.measure())
      const reference = await baseline.measure()
      if (pair % 2 === 0) slices.push(await candidate.measure())
      return meanLogRatio(slices.at(-1)!, reference)
    },
    { maxPairs },
  )
  return { outcome: comparison.verdict, comparison, slice: toSlice(slices, median) }
}
