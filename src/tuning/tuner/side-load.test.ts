import { describe, expect, it } from 'vitest'
import { drawNormal } from '../../../test/fakes/tuned-side.ts'
import { VirtualLoadClock, VirtualTarget } from '../../../test/fakes/virtual-load.ts'
import { createRandom } from '../measure/random.ts'
import { meanLogRatio } from './experiment.ts'
import { startSideLoad } from './side-load.ts'
import type { Slice } from './side.ts'

const workload = { name: 'w', requests: [{ texts: ['a'], tokens: 3 }] }
const roundMs = 100

interface VirtualSide {
  readonly target: VirtualTarget
  measure(all?: boolean): Promise<Slice>
}

/** A process that is 30 % slower when it begins, and less and less so while it works; its clock stands while others work. */
async function startSide(seed: number, options: { readonly coldMs: number }): Promise<VirtualSide> {
  const random = createRandom(seed)
  const clock = new VirtualLoadClock()
  const target = new VirtualTarget('side', clock, (_call, nowMs) => {
    return 10 * (1 + 0.3 * Math.exp(-nowMs / options.coldMs)) * Math.exp(0.05 * drawNormal(random))
  })
  const load = await clock.until(
    startSideLoad({ target, workload, clients: [1, 2], moreClients: [3], roundMs, clock }),
  )
  return { target, measure: (all = false) => clock.until(load.measure(all)) }
}

/** Mean log ratio over the first pairs of a candidate that is just like the incumbent, which has worked for a while. */
async function measureBias(options: { readonly coldMs: number }): Promise<number> {
  const logs: number[] = []
  for (let seed = 0; seed < 10; seed++) {
    const incumbent = await startSide(2 * seed, options)
    for (let round = 0; round < 30; round++) await incumbent.measure()
    const candidate = await startSide(2 * seed + 1, options)
    for (let pair = 0; pair < 8; pair++)
      logs.push(meanLogRatio(await candidate.measure(), await incumbent.measure()))
  }
  return logs.reduce((sum, log) => sum + log, 0) / logs.length
}

describe('a side', () => {
  it('counts only once it is warm: an equal candidate is not behind in its first pairs, 10 seeds', async () => {
    // Cold, the first 8 pairs are 7 % behind; after half the warm-up still 1 %.
    expect(Math.abs(await measureBias({ coldMs: 5 * roundMs }))).toBeLessThan(0.005)
    // What takes much longer than the warm-up is seen, so the measure is not blind.
    expect(await measureBias({ coldMs: 50 * roundMs })).toBeLessThan(-0.03)
  })

  it('measures a scenario for each number of clients, the more only when all are asked for', async () => {
    const side = await startSide(1, { coldMs: 1 })
    expect(side.target.most).toBe(2)
    const slice = await side.measure()
    expect(Object.keys(slice.scenarios)).toEqual(['1 client', '2 clients'])
    expect(slice.scenarios['2 clients']!.latenciesMs!.length).toBeGreaterThan(15)
    expect(Object.keys((await side.measure(true)).scenarios)).toEqual(['1 client', '2 clients', '3 clients'])
  })
})
