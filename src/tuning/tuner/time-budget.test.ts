import { describe, expect, it } from 'vitest'
import { fourStages, tuneFakeMachine } from '../../../test/fixtures/tune-fake-machine.ts'
import { createRandom } from '../measure/random.ts'

describe('the time', () => {
  it('is given to what looks like a gain: up to three times the share', async () => {
    // A seventh of the time is for the first knob: about eight pairs.
    const ordered = [fourStages[3]!, fourStages[0]!, fourStages[1]!]
    const countPairs = async (gain: number): Promise<number> => {
      let pairs = 0
      for (let seed = 0; seed < 12; seed++) {
        let nowMs = 0
        const { experiments } = await tuneFakeMachine(
          {
            speed: ({ maxBatchSize }) => (maxBatchSize === 4 ? gain : 1) * 100,
            factor: () => {
              nowMs += 100
              return 1
            },
            noise: 0.3,
            random: createRandom(seed),
          },
          { stages: ordered, maxTrials: 1, finalRounds: 6, budgetMs: 40_000, nowMs: () => nowMs },
        )
        pairs += experiments[0]!.result.comparison!.pairs
      }
      return pairs
    }
    expect(await countPairs(1.1)).toBeGreaterThan(1.3 * (await countPairs(0.95)))
  })

  it('is shared: a knob that noise drowns does not take that of the others', async () => {
    let nowMs = 0
    const { experiments } = await tuneFakeMachine(
      {
        speed: () => 100,
        // Every measurement takes a second.
        factor: (_settings, scenario) => {
          if (scenario === '1 client') nowMs += 1000
          return 1
        },
        noise: 0.5,
        random: createRandom(5),
      },
      { finalRounds: 6, budgetMs: 180_000, nowMs: () => nowMs },
    )
    expect(new Set(experiments.map(({ stage }) => stage))).toEqual(
      new Set(['engine', 'batching', 'defaults']),
    )
    // The end included.
    expect(nowMs).toBeLessThan(220_000)
  })
})
