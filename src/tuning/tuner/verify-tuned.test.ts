import { describe, expect, it } from 'vitest'
import { createFakeMachine, drawNormal, fakeScenarios } from '../../../test/fakes/tuned-side.ts'
import { createRandom } from '../measure/random.ts'
import { predictRound } from './predict-round.ts'
import type { Side } from './side.ts'
import { type Verification, verifyTuned } from './verify-tuned.ts'

/** A side whose rate is that of its round, counted from 0. */
async function startSide(
  speedOf: (round: number) => number,
  { noise = 0, seed = 1, cosine = 0.9999 } = {},
): Promise<Side> {
  let round = -1
  const speed = (): number => speedOf(round)
  const { start } = createFakeMachine({ speed, cosine: () => cosine, noise, random: createRandom(seed) })
  const side = await start({})
  return {
    ...side,
    measure: () => {
      round++
      return side.measure()
    },
  }
}

const then = { textsPerSecond: 100, p50Ms: 1, p95Ms: 1, p99Ms: 1, expected: { low: 90, high: 110 } }
const measured = Object.fromEntries(fakeScenarios.map((scenario) => [scenario, then]))
const verdictsOf = ({ scenarios }: Verification): string[] => scenarios.map(({ verdict }) => verdict)

describe('verify', () => {
  it.each([
    [100, 'as expected', true, 1],
    [120, 'faster', true, 1],
    [80, 'SLOWER', false, 3],
  ])('%d texts/s where 90 to 110 are expected: %s', async (rate, verdict, passed, visits) => {
    const verification = await verifyTuned(measured, await startSide(() => rate))
    expect(verdictsOf(verification)).toEqual([verdict, verdict, verdict])
    expect(verification).toMatchObject({ passed, visits })
    expect(verification.scenarios[0]).toMatchObject({ textsPerSecond: rate, ratio: rate / 100 })
  })

  it('measures again what was slower: other work that has passed is no loss', async () => {
    const verification = await verifyTuned(measured, await startSide((round) => (round < 12 ? 60 : 100)))
    expect(verification).toMatchObject({ passed: true, visits: 2 })
  })

  it('fails for other vectors, however fast', async () => {
    const side = await startSide(() => 100, { cosine: 0.98 })
    expect(await verifyTuned(measured, side)).toMatchObject({ passed: false, visits: 1 })
  })

  it('judges no rate that has no interval', async () => {
    const { expected: _, ...without } = then
    const verification = await verifyTuned({ '1 client': without }, await startSide(() => 50))
    expect(verification).toMatchObject({ passed: true, visits: 1 })
    expect(verdictsOf(verification)).toEqual(['no interval recorded'])
  })

  it('says which round is under way, and stops when told', async () => {
    const rounds: string[] = []
    const stop = new AbortController()
    const onRound = (visit: number, round: number, ofRounds: number): void => {
      rounds.push(`${visit} ${round} ${ofRounds}`)
      if (rounds.length === 14) stop.abort()
    }
    const side = await startSide(() => 50)
    await expect(verifyTuned(measured, side, { signal: stop.signal, onRound })).rejects.toMatchObject({
      name: 'AbortError',
    })
    expect(rounds.slice(11)).toEqual(['1 12 12', '2 1 12', '2 2 12'])
  })
})

describe('at 8 % noise a round and a machine that drifts by 5 % between run and verification, 400 seeds', () => {
  /** A run of twelve rounds, then a verification of the configuration at `speed` of what it was. */
  async function verifySeed(seed: number, speed: number): Promise<Verification> {
    const random = createRandom(seed)
    const drift = () => Math.exp(0.05 * drawNormal(random))
    const at = drift()
    const rates = Array.from({ length: 12 }, () => 100 * at * Math.exp(0.08 * drawNormal(random)))
    const figures = { ...then, expected: predictRound(rates) }
    const later = drift()
    const side = await startSide(() => 100 * later * speed, { noise: 0.08, seed })
    return verifyTuned(Object.fromEntries(fakeScenarios.map((scenario) => [scenario, figures])), side)
  }
  const count = async (speed: number, is: (verification: Verification) => boolean): Promise<number> => {
    let found = 0
    for (let seed = 0; seed < 400; seed++) if (is(await verifySeed(seed, speed))) found++
    return found
  }

  it('the same configuration is inside in 9 of 10 at least', async () => {
    const inside = await count(1, (found) => verdictsOf(found).every((verdict) => verdict === 'as expected'))
    expect(inside).toBeGreaterThanOrEqual(360)
  })

  it('one that lost a quarter is found in 9 of 10 at least', async () => {
    expect(await count(0.75, ({ passed }) => !passed)).toBeGreaterThanOrEqual(360)
  })
})
