import { describe, expect, it } from 'vitest'
import { createFakeMachine } from '../../../test/fakes/tuned-side.ts'
import { tuneFakeMachine } from '../../../test/fixtures/tune-fake-machine.ts'
import { createRandom } from '../measure/random.ts'
import type { PlainLoopComparison } from './journal.ts'

describe('the comparison at the end', () => {
  it('takes the untuned default where that is faster than what little time found', async () => {
    const { result, entries } = await tuneFakeMachine(
      { speed: (settings) => (settings.engine === undefined ? 300 : 100), noise: 0.02 },
      { maxTrials: 1, untuned: { maxQueuedRequests: 7 } },
    )
    expect(result).toMatchObject({ incumbentId: 'untuned', settings: { maxQueuedRequests: 7 } })
    expect(result.final.instead!.lossToUntuned.high).toBeLessThan(0.5)
    expect(result.final.winner).toEqual(result.final.untuned)
    expect(entries.at(-1)).toMatchObject({ kind: 'end', incumbentId: 'untuned' })
  })

  it('takes it where one number of clients loses what others gain', async () => {
    const { result } = await tuneFakeMachine(
      {
        speed: () => 100,
        factor: (settings, scenario) =>
          settings.engine === undefined
            ? 1
            : scenario === '16 clients'
              ? 0.85
              : scenario === '4 clients'
                ? 1.2
                : 1,
        noise: 0.01,
      },
      { maxTrials: 0, finalRounds: 12 },
    )
    expect(result.incumbentId).toBe('untuned')
    expect(result.final.instead!.lossToUntuned).toMatchObject({ scenario: '16 clients' })
  })

  it('takes it in doubt, too: what was found has to prove itself', async () => {
    const ends = []
    for (let seed = 0; seed < 12; seed++) {
      const { result } = await tuneFakeMachine(
        {
          speed: (settings) => (settings.engine === undefined ? 120 : 100),
          noise: 0.4,
          random: createRandom(seed),
        },
        { maxTrials: 0 },
      )
      ends.push(result.final.instead?.lossToUntuned)
    }
    expect(ends.some((loss) => loss !== undefined && loss.high >= 1)).toBe(true)
    expect(ends.every((loss) => loss === undefined || loss.ratio < 1)).toBe(true)
  })

  it('does not where the untuned default is not as exact', async () => {
    const { result } = await tuneFakeMachine(
      {
        speed: (settings) => (settings.engine === undefined ? 300 : 100),
        cosine: (settings) => (settings.engine === undefined ? 0.9 : 0.9999),
        noise: 0.02,
      },
      { maxTrials: 1 },
    )
    expect(result.incumbentId).not.toBe('untuned')
  })

  it('holds the baseline against a plain loop, and says why not where there is none', async () => {
    const { start } = createFakeMachine({ speed: () => 125, noise: 0.02, random: createRandom(2) })
    const { result } = await tuneFakeMachine({ noise: 0.02 }, { maxTrials: 0, startPlainLoop: start })
    expect(result.final.plainLoop).toMatchObject({ scenario: '1 client' })
    const { textsPerSecond, baselineByPlain } = result.final.plainLoop as PlainLoopComparison
    expect(textsPerSecond).toBeCloseTo(125, -1)
    expect(baselineByPlain.low).toBeLessThan(0.8)
    expect(baselineByPlain.high).toBeGreaterThan(0.8)
    const failing = createFakeMachine({
      speed: () => 1,
      noise: 0,
      random: createRandom(2),
      fails: () => 'start',
    })
    const without = await tuneFakeMachine({}, { maxTrials: 0, startPlainLoop: failing.start })
    expect(without.result.final.plainLoop).toEqual({
      missing: 'it does not start: planted failure at the start',
    })
    const gpu = await tuneFakeMachine({}, { maxTrials: 0 })
    expect(gpu.result.final.plainLoop).toEqual({ missing: 'the baseline is no onnx on the CPU' })
  })

  it('goes without the untuned default where that does not start, and says so', async () => {
    const { result } = await tuneFakeMachine(
      { noise: 0.02, fails: ({ engine }) => (engine === undefined ? 'start' : undefined) },
      { maxTrials: 1 },
    )
    expect(result.final.untuned).toEqual({ missing: 'it does not start: planted failure at the start' })
    expect(result.final.gains[0]).toMatchObject({ overUntuned: undefined })
    expect(result.incumbentId).toBe('e1')
  })
})
