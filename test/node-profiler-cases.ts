import { expect, it } from 'vitest'
import type { Engine } from '../src/engines/engine.ts'
import { pack } from './engine-contract.ts'

/** Cases for every engine that can measure its graph's nodes. `create` makes one of the tiny BERT (two layers) that does. */
export function describeNodeProfiler(create: () => Promise<Engine>, product: string): void {
  it('measures the nodes of the recorded runs alone', async () => {
    await using engine = await create()
    const profiler = engine.nodeProfiler!
    const batch = pack([Array.from({ length: 48 }, (_, i) => 5 + i)])
    for (let i = 0; i < 4; i++) await engine.embed(batch)
    profiler.start()
    let inferenceNs = 0
    for (let i = 0; i < 3; i++) inferenceNs += Number((await engine.embed(batch)).inferenceNs)
    const times = await profiler.stop()

    const byName = new Map<string, number>()
    for (const { name } of times) byName.set(name, (byName.get(name) ?? 0) + 1)
    expect(new Set(byName.values())).toEqual(new Set([3]))
    // A layer multiplies by query, key, value, output, up and down.
    const products = times.filter(({ operation }) => operation === product)
    expect(new Set(products.map(({ name }) => name)).size).toBeGreaterThanOrEqual(12)
    const totalNs = times.reduce((sum, { durationNs }) => sum + durationNs, 0)
    expect(totalNs).toBeGreaterThan(0)
    // Whole microseconds, rounded: up to one more a node and run.
    expect(totalNs).toBeLessThan(inferenceNs + times.length * 1000)
  })

  it('a recording without runs is empty', async () => {
    await using engine = await create()
    engine.nodeProfiler!.start()
    expect(await engine.nodeProfiler!.stop()).toEqual([])
  })
}
