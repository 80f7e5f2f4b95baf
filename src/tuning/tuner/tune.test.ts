import { describe, expect, it } from 'vitest'
import { tuneFakeMachine } from '../../../test/fixtures/tune-fake-machine.ts'
import { createRandom } from '../measure/random.ts'
import type { Settings } from './side.ts'

describe('tune', () => {
  it('keeps what helps, one change at a time, and writes it all down', async () => {
    const { result, experiments, entries } = await tuneFakeMachine({ random: createRandom(3) })
    expect(result.settings).toMatchObject({ engine: 'openvino', precision: 'bf16', maxBatchSize: 8 })
    expect(experiments.map(({ change, result: { outcome } }) => [Object.values(change)[0], outcome])).toEqual(
      [
        ['openvino', 'kept'],
        ['bf16', 'kept'],
        [4, 'kept'],
        [8, 'kept'],
        [16, 'rolled back'],
        // At the end what serve takes by itself.
        [undefined, 'rolled back'],
      ],
    )
    expect(experiments.map(({ id, incumbentId }) => [id, incumbentId]).slice(0, 3)).toEqual([
      ['e1', 'baseline'],
      ['e2', 'e1'],
      ['e3', 'e2'],
    ])
    expect(entries.map(({ kind }) => kind)).toEqual([
      'begin',
      'baseline',
      'experiment',
      'experiment',
      'skip',
      ...Array.from({ length: 4 }, () => 'experiment'),
      'end',
    ])
    expect(result.final.gains).toHaveLength(3)
    for (const { overBaseline } of result.final.gains) {
      expect(overBaseline.low).toBeLessThan(4.2)
      expect(overBaseline.high).toBeGreaterThan(4.2 * 0.95)
    }
  })

  it('stops at the number of trials and at the time allowed, with what it has', async () => {
    const two = await tuneFakeMachine({}, { maxTrials: 2 })
    expect(two.result.incumbentId).toBe('e2')
    expect(two.entries.at(-1)).toMatchObject({ kind: 'end', stoppedBy: 'the 2 trials allowed' })
    let nowMs = 0
    const short = await tuneFakeMachine({}, { budgetMs: 60_000, nowMs: () => (nowMs += 20_000) })
    expect(short.entries.at(-1)).toMatchObject({ stoppedBy: 'the 1 minutes allowed' })
    expect(short.experiments.length).toBeLessThan(3)
  })

  it('a candidate that is faster over all but slower with one client is rolled back', async () => {
    const { result, experiments } = await tuneFakeMachine({
      factor: (settings, scenario) => (settings.maxBatchSize === 1 ? 1 : scenario === '1 client' ? 0.6 : 1.5),
    })
    expect(result.settings.maxBatchSize).toBe(1)
    const last = experiments.findLast(({ stage }) => stage === 'batching')!
    expect(last.result.reason).toBe('faster over all, but slower with 1 client')
  })

  it('a candidate that takes too much memory is rolled back', async () => {
    const { experiments } = await tuneFakeMachine(
      { rssBytes: ({ precision }) => (precision === 'bf16' ? 2 ** 31 : 2 ** 28) },
      { memoryLimits: { rssBytes: 2 ** 30, gpuBytes: 1 } },
    )
    expect(experiments[1]!.result).toMatchObject({
      outcome: 'rolled back',
      reason: 'takes 2048 MiB of memory, 1024 are allowed',
    })
  })

  it('a baseline that fails its own check stops the run', async () => {
    await expect(tuneFakeMachine({ cosine: () => 0.9 })).rejects.toMatchObject({ code: 'TUNING_FAILED' })
  })

  it('a service that cannot be started is told with its words', async () => {
    await expect(tuneFakeMachine({ fails: () => 'start' })).rejects.toMatchObject({
      code: 'TUNING_FAILED',
      message: expect.stringContaining('baseline: planted failure at the start') as unknown,
    })
  })

  it('profiles baseline and winner; a profile that fails is told and ends nothing', async () => {
    const profiled: Settings[] = []
    const { entries, result } = await tuneFakeMachine(
      { noise: 0.02 },
      {
        maxTrials: 1,
        profile: (settings) => {
          profiled.push(settings)
          return Promise.reject(new Error('planted'))
        },
      },
    )
    expect(profiled[0]).toMatchObject({ engine: 'onnx' })
    expect(profiled.slice(1)).toEqual([result.settings])
    const missing = { missing: 'planted' }
    expect(entries.at(-1)).toEqual({ kind: 'profile', profile: missing, baseline: missing })
  })
})
