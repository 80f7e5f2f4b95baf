import { describe, expect, it } from 'vitest'
import type { FakeMachine } from '../../../test/fakes/tuned-side.ts'
import { fourStages, tuneFakeMachine } from '../../../test/fixtures/tune-fake-machine.ts'
import { createRandom } from '../measure/random.ts'
import type { Stage } from './search-space.ts'
import type { Settings } from './side.ts'

describe('planted faults, 100 seeds each', () => {
  const seeds = Array.from({ length: 100 }, (_, seed) => seed)
  const twoStages: readonly Stage[] = [
    fourStages[0]!,
    { name: 'batching', knobs: [{ key: 'maxBatchSize', values: [4] }] },
  ]

  it.each([
    [
      'a candidate that is 10 % slower',
      { speed: (s: Settings) => (isPlanted(s) ? 90 : 100) },
      /^(slower|no gain shown)$/,
      'rolled back',
    ],
    [
      'a worst cosine of 0.985',
      { cosine: (s: Settings) => (isPlanted(s) ? 0.985 : 0.9999) },
      /^quality: worst cosine 0.9850 \(limit 0.99\)$/,
      'rolled back',
    ],
    [
      'a crash under load',
      { fails: (s: Settings) => (isPlanted(s) ? 'measure' : undefined) },
      /SIGSEGV/,
      'failed',
    ],
    [
      'a crash at the start',
      { fails: (s: Settings) => (isPlanted(s) ? 'start' : undefined) },
      /^does not start: planted/,
      'failed',
    ],
    [
      'a crash in the quality check',
      { fails: (s: Settings) => (isPlanted(s) ? 'assess' : undefined) },
      /^failed while its quality was judged/,
      'failed',
    ],
  ] as const)('%s is caught, reverted and named', async (_name, fault, reason, outcome) => {
    const runs = await Promise.all(
      seeds.map((seed) =>
        tuneFakeMachine(
          { random: createRandom(seed), ...(fault as Partial<FakeMachine>) },
          { stages: twoStages, finalRounds: 6, untuned: { engine: 'onnx', maxBatchSize: 1 } },
        ),
      ),
    )
    for (const [seed, { result, experiments }] of runs.entries()) {
      expect(experiments[0], `seed ${seed}`).toMatchObject({
        change: { engine: 'openvino' },
        result: { outcome },
      })
      expect(experiments[0]!.result.reason, `seed ${seed}`).toMatch(reason)
      expect(result.settings.engine, `seed ${seed}`).toBe('onnx')
      // The run goes on from the incumbent that was there before.
      expect(experiments[1], `seed ${seed}`).toMatchObject({
        incumbentId: 'baseline',
        change: { maxBatchSize: 4 },
      })
    }
  })
})

function isPlanted(settings: Settings): boolean {
  return settings.engine === 'openvino'
}
