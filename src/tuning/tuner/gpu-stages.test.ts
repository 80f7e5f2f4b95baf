import { describe, expect, it } from 'vitest'
import { tuneFakeMachine } from '../../../test/fixtures/tune-fake-machine.ts'
import { baselineSettings, planStages } from './search-space.ts'
import type { Settings } from './side.ts'
import type { TuneOptions } from './tune.ts'

describe('a GPU, as far as a fake shows it', () => {
  const gpu = { usableCores: 16, hasGpu: true }
  it('goes through the stages of TensorRT in the order of the plan', async () => {
    const { result, experiments, entries } = await tuneFakeMachine(
      { speed: perSecond, noise: 0.01 },
      { stages: planStages(gpu, ['tensorrt', 'cuda']), baseline: baselineSettings(gpu, 'tensorrt') },
    )
    expect(result.settings).toMatchObject({
      engine: 'tensorrt',
      precision: 'fp8',
      builderOptimizationLevel: 5,
      cudaGraphs: 32,
    })
    expect([...new Set(experiments.map(({ stage }) => stage))]).toEqual([
      'engine',
      'precision',
      'builder',
      'tactics',
      'workspace',
      'memory',
      'streams',
      'batching',
      'defaults',
    ])
    expect(entries.find((entry) => entry.kind === 'skip')).toMatchObject({
      stage: 'threads',
      reason: 'the engine tensorrt has no threads',
    })
  })

  it("judges the GPU's memory, not that of a process that may have built a plan", async () => {
    const limited = async (memoryLimits: TuneOptions['memoryLimits']): Promise<string> => {
      const { experiments } = await tuneFakeMachine(
        { speed: perSecond, noise: 0.01, rssBytes: () => 2 ** 34 },
        {
          stages: planStages(gpu, ['cuda'], ['precision']),
          baseline: baselineSettings(gpu, 'cuda'),
          memoryLimits,
        },
      )
      return experiments[0]!.result.reason
    }
    expect(await limited({ rssBytes: 1, gpuBytes: 2 ** 30 })).toBe('faster')
    expect(await limited({ gpuBytes: 2 ** 29 })).toBe("takes 1024 MiB of the GPU's memory, 512 are allowed")
  })

  it('skips by name what the engine cuda does not have', async () => {
    const { entries } = await tuneFakeMachine(
      { speed: perSecond, noise: 0.01 },
      { stages: planStages(gpu, ['cuda']), baseline: baselineSettings(gpu, 'cuda') },
    )
    const skips = entries.filter((entry) => entry.kind === 'skip')
    expect(skips.map(({ stage }) => stage)).toEqual([
      'engine',
      'builder',
      'tactics',
      'workspace',
      'threads',
      'streams',
    ])
    expect(skips[1]!.reason).toBe(
      'the engine cuda has no builderOptimizationLevel, profileTokens, enginePerProfile',
    )
  })
})

function perSecond(settings: Settings): number {
  return (
    100 *
    (settings.precision === 'fp8' ? 1.5 : settings.precision === 'fp8-rowwise' ? 1.2 : 1) *
    (settings.builderOptimizationLevel === 5 ? 1.1 : 1) *
    (settings.cudaGraphs === 32 ? 1.3 : 1) *
    (settings.engine === 'cuda' ? 0.8 : 1)
  )
}
