import { describe, expect, it } from 'vitest'
import { createFakeMachine, type FakeMachine } from '../../../test/fakes/tuned-side.ts'
import { createRandom } from '../measure/random.ts'
import { type ExperimentResult, runExperiment } from './experiment.ts'

/** At the noise of a round on a quiet machine, as in compare-sides.test.ts. */
async function compare(
  seed: number,
  machine: Partial<FakeMachine>,
  maxPairs?: number,
): Promise<ExperimentResult> {
  const { start } = createFakeMachine({
    speed: () => 100,
    noise: 0.0547,
    random: createRandom(seed),
    ...machine,
  })
  const incumbent = await start({ maxBatchSize: 1 })
  return (await runExperiment({ incumbent, start, settings: { maxBatchSize: 32 }, maxPairs })).result
}

const count = async (runs: number, machine: Partial<FakeMachine>, maxPairs?: number) => {
  const reasons = new Map<string, number>()
  for (let seed = 0; seed < runs; seed++) {
    const { outcome, reason } = await compare(seed, machine, maxPairs)
    const key = `${outcome}: ${reason}`
    reasons.set(key, (reasons.get(key) ?? 0) + 1)
  }
  const of = (pattern: RegExp): number =>
    [...reasons].reduce((sum, [key, times]) => sum + (pattern.test(key) ? times : 0), 0)
  return { of }
}

describe('a candidate', () => {
  it('that is just like the incumbent is kept in 5 % of 1,000 runs at most, by one scenario or all', async () => {
    const { of } = await count(1000, {})
    expect(of(/^kept/)).toBeLessThanOrEqual(50)
  })

  it('that gains 13 % with 16 clients alone is kept although the mean shows nothing on a busy machine, 100 seeds', async () => {
    const machine: Partial<FakeMachine> = {
      noise: 0.09,
      factor: ({ maxBatchSize }, scenario) => (maxBatchSize === 32 && scenario === '16 clients' ? 1.13 : 1),
    }
    const { of } = await count(100, machine, 16)
    expect(of(/^kept: faster( with 16 clients)?$/)).toBeGreaterThanOrEqual(75)
    expect(of(/^kept: faster with 16 clients$/)).toBeGreaterThan(45)
  })

  it('that loses with one client what it gains with 16 is not, 100 seeds', async () => {
    const { of } = await count(100, {
      factor: ({ maxBatchSize }, scenario) =>
        maxBatchSize !== 32 ? 1 : scenario === '16 clients' ? 1.2 : scenario === '1 client' ? 0.88 : 1,
    })
    expect(of(/^kept/)).toBeLessThanOrEqual(5)
    expect(of(/^rolled back: faster .*, but slower with 1 client$/)).toBeGreaterThan(50)
  })
})
