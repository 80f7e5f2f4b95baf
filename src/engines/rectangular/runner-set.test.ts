import { describe, expect, it } from 'vitest'
import type { RectangleRunner } from './rectangular-engine.ts'
import { RunnerSet } from './runner-set.ts'

const runner = (): RectangleRunner => ({ run: () => Promise.resolve() })

describe('RunnerSet', () => {
  it('gives each runner to one call at a time, first come, first served', async () => {
    const [a, b] = [runner(), runner()]
    const set = new RunnerSet({ shared: [a, b] })
    const first = await set.acquire(false)
    const second = await set.acquire(false)
    expect(new Set([first.runner, second.runner])).toEqual(new Set([a, b]))
    const order: string[] = []
    const third = set.acquire(false).then((lease) => {
      order.push('third')
      return lease
    })
    void set.acquire(false).then(() => order.push('fourth'))
    await new Promise(setImmediate)
    expect(order).toEqual([])
    second.release()
    expect((await third).runner).toBe(second.runner)
    first.release()
    await new Promise(setImmediate)
    expect(order).toEqual(['third', 'fourth'])
  })

  it('gives the one with all threads to a call that runs alone, and a shared one while it is taken', async () => {
    const [shared, exclusive] = [runner(), runner()]
    const set = new RunnerSet({ shared: [shared], exclusive })
    const alone = await set.acquire(true)
    const beside = await set.acquire(true)
    expect([alone.runner, alone.isExclusive]).toEqual([exclusive, true])
    expect([beside.runner, beside.isExclusive]).toEqual([shared, false])
    alone.release()
    expect((await set.acquire(true)).runner).toBe(exclusive)
    beside.release()
  })
})
