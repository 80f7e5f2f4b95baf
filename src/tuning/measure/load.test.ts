import { describe, expect, it } from 'vitest'
import { VirtualLoadClock, VirtualTarget } from '../../../test/fakes/virtual-load.ts'
import { type Load, type RoundResult, runLoad } from './load.ts'
import type { LoadTarget } from './target.ts'
import type { Workload } from './workload.ts'

const workload: Workload = {
  name: 'w',
  requests: [
    { texts: ['a', 'b'], tokens: 10 },
    { texts: ['c'], tokens: 4 },
  ],
}

interface Run {
  readonly target: VirtualTarget
  readonly round: RoundResult
}

/** A round against a target that takes so long, in virtual time. */
async function run(
  delayMs: (call: number, nowMs: number) => number,
  load: Load,
  options: { durationMs?: number; warmupMs?: number; clock?: VirtualLoadClock } = {},
): Promise<Run> {
  const { durationMs = 300, warmupMs = 0, clock = new VirtualLoadClock() } = options
  const target = new VirtualTarget('fake', clock, delayMs)
  const round = await clock.until(runLoad(target, { workload, load, durationMs, warmupMs, clock }))
  return { target, round }
}

describe('a closed loop', () => {
  it('keeps so many requests under way, and counts requests, texts and tokens', async () => {
    const { target, round } = await run(() => 10, { kind: 'closed', clients: 3 })
    expect(target.most).toBe(3)
    expect(target.calls).toBe(90)
    expect(round).toMatchObject({ requests: 90, p50Ms: 10, p99Ms: 10, maxMs: 10, requestsPerSecond: 300 })
    expect(round).toMatchObject({ textsPerSecond: 450, tokensPerSecond: 2100, errors: 0, cpuCores: null })
  })

  it('leaves out the warm-up', async () => {
    const { target, round } = await run(
      (call) => (call <= 2 ? 100 : 5),
      { kind: 'closed', clients: 2 },
      { durationMs: 60, warmupMs: 90 },
    )
    expect(target.calls).toBe(2 + 20)
    expect(round).toMatchObject({ requests: 20, maxMs: 5 })
  })
})

describe('a closed loop that is slower than its round', () => {
  it('counts one request a client', async () => {
    const { round } = await run(() => 1000, { kind: 'closed', clients: 2 }, { durationMs: 60, warmupMs: 90 })
    expect(round).toMatchObject({ requests: 2, p50Ms: 1000 })
    expect(round.requestsPerSecond).toBe(2)
  })
})

describe('an open loop', () => {
  it('sends at the rate whatever comes back, and counts from the time a request was due', async () => {
    // The target stalls for its first 200 ms: a closed loop would count one slow request, here all that were due are slow.
    const { target, round } = await run((_call, nowMs) => Math.max(1, 200 - nowMs), {
      kind: 'open',
      requestsPerSecond: 100,
      arrivals: 'constant',
    })
    expect(target.most).toBe(19)
    expect(round).toMatchObject({ requests: 29, maxMs: 190, p50Ms: 50 })
  })

  it('counts the delay of a client that is late itself', async () => {
    class LateClock extends VirtualLoadClock {
      override async waitUntil(timeMs: number): Promise<void> {
        await super.waitUntil(timeMs > 105 && timeMs < 200 ? 200 : timeMs)
      }
    }
    const load = { kind: 'open', requestsPerSecond: 100, arrivals: 'constant' } as const
    const { round } = await run(() => 1, load, { clock: new LateClock() })
    expect(round.requests).toBe(29)
    expect(round.maxMs).toBe(200 - 110 + 1)
  })

  it('draws the same Poisson arrivals from the same seed, at the rate asked for', async () => {
    const load = { kind: 'open', requestsPerSecond: 200, arrivals: 'poisson' } as const
    const rounds = [
      await run(() => 1, load, { durationMs: 5000 }),
      await run(() => 1, load, { durationMs: 5000 }),
    ]
    expect(rounds[0]!.round).toEqual(rounds[1]!.round)
    // 1,000 expected, standard deviation 32
    expect(Math.abs(rounds[0]!.round.requests - 1000)).toBeLessThan(100)
    expect(rounds[0]!.target.most).toBeGreaterThan(1)
  })
})

describe('counters', () => {
  it('are those of the round: batch size, padding, CPU', async () => {
    const clock = new VirtualLoadClock()
    const target = new VirtualTarget('fake', clock, () => 10)
    target.readCounters = () =>
      Promise.resolve({
        batches: 50 + target.calls,
        inputs: target.calls * 3,
        paddingRatioSum: 9 + target.calls / 4,
        cpuSeconds: 5 + clock.nowMs() / 500,
        rssBytes: 7,
      })
    const options = {
      workload,
      load: { kind: 'closed', clients: 1 },
      durationMs: 100,
      warmupMs: 50,
      clock,
    } as const
    const round = await clock.until(runLoad(target, options))
    expect(round).toMatchObject({ averageBatchSize: 3, paddingRatio: 0.25, rssBytes: 7 })
    expect(round.cpuCores).toBeCloseTo(2, 6)
  })
})

describe('failures', () => {
  it('are counted with the first message', async () => {
    const clock = new VirtualLoadClock()
    const target = new VirtualTarget('fake', clock, () => 10)
    const send = target.send.bind(target)
    let calls = 0
    target.send = () => (calls++ % 2 === 0 ? Promise.reject(new Error('queue full')) : send())
    const options = {
      workload,
      load: { kind: 'closed', clients: 1 },
      durationMs: 50,
      warmupMs: 0,
      clock,
    } as const
    const round = await clock.until(runLoad(target, options))
    expect(round.errors).toBeGreaterThan(1)
    expect(round).toMatchObject({ firstError: 'queue full', p50Ms: 10 })
  })

  it('TARGET_FAILED when nothing was answered', async () => {
    const target: LoadTarget = new VirtualTarget('fake', new VirtualLoadClock(), () => 1)
    target.send = () => Promise.reject(new Error('no connection'))
    const options = { workload, load: { kind: 'closed', clients: 1 }, durationMs: 20, warmupMs: 0 } as const
    await expect(runLoad(target, options)).rejects.toMatchObject({
      code: 'TARGET_FAILED',
      details: { target: 'fake', reason: 'no connection' },
    })
  })

  it.each([
    { kind: 'closed', clients: 2 } as const,
    { kind: 'open', requestsPerSecond: 50, arrivals: 'poisson' } as const,
  ])('a signal ends the load: %o', async (load) => {
    const clock = new VirtualLoadClock()
    const target = new VirtualTarget('fake', clock, () => 1)
    const stop = new AbortController()
    clock.schedule(50, () => stop.abort())
    const options = { workload, load, durationMs: 60_000, warmupMs: 0, clock, signal: stop.signal }
    await expect(clock.until(runLoad(target, options))).rejects.toMatchObject({ code: 'REQUEST_CANCELLED' })
    expect(clock.nowMs()).toBeLessThan(1000)
  })
})
