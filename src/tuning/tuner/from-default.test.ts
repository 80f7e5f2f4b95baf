import { describe, expect, it } from 'vitest'
import { fourStages, tuneFakeMachine } from '../../../test/fixtures/tune-fake-machine.ts'
import type { Settings } from './side.ts'

/** Batches of 32 give 1.6, which no stage here finds; the engine 1.2 and bf16 1.3. */
function speed({ engine, precision, maxBatchSize }: Settings): number {
  const isOpenvino = engine === 'openvino'
  return (
    100 * (isOpenvino ? 1.2 : 1) * (precision === 'bf16' ? 1.3 : 1) * ((maxBatchSize ?? 32) > 1 ? 1.6 : 1)
  )
}
const stages = fourStages.slice(0, 2)
const untuned = { engine: 'openvino', precision: 'fp32', maxQueuedRequests: 7 } as const

describe('the default', () => {
  it('is gone on from where it beats what the search found, with what the search had kept', async () => {
    const { result, experiments, entries } = await tuneFakeMachine({ speed }, { stages, untuned })
    expect(
      experiments.map(({ stage, change, incumbentId, result: { outcome } }) => [
        stage,
        change,
        incumbentId,
        outcome,
      ]),
    ).toEqual([
      ['engine', { engine: 'openvino' }, 'baseline', 'kept'],
      ['precision', { precision: 'bf16' }, 'e1', 'kept'],
      ['defaults', untuned, 'e2', 'kept'],
      // The engine is the default's already.
      ['precision', { precision: 'bf16' }, 'e3', 'kept'],
    ])
    expect(result).toMatchObject({ incumbentId: 'e4', settings: { ...untuned, precision: 'bf16' } })
    // Conditions of the comparison are no part of the result, nor is what the search had found for the plain service.
    expect(result.settings.maxBatchSize).toBeUndefined()
    expect(result.final.instead).toBeUndefined()
    expect(entries.at(-1)).toMatchObject({ kind: 'end', incumbentId: 'e4' })
  })

  it('is measured once at the end where nothing is better than it: its like would differ by noise', async () => {
    const { result, experiments } = await tuneFakeMachine(
      { speed: ({ maxBatchSize }) => ((maxBatchSize ?? 32) > 1 ? 160 : 100), noise: 0.3 },
      { stages: [], untuned },
    )
    expect(experiments.map(({ stage, result: { outcome } }) => [stage, outcome])).toEqual([
      ['defaults', 'kept'],
    ])
    expect(result).toMatchObject({ incumbentId: 'e1', settings: untuned, final: { isUntuned: true } })
    expect(result.final.untuned).toEqual(result.final.winner)
    expect(result.final.instead).toBeUndefined()
  })

  it('is left where what was found is faster', async () => {
    const { result, experiments } = await tuneFakeMachine(
      { speed },
      { stages: fourStages, untuned: { engine: 'onnx', precision: 'fp32' } },
    )
    expect(experiments.at(-1)).toMatchObject({ stage: 'defaults', result: { outcome: 'rolled back' } })
    expect(result.settings).toMatchObject({ engine: 'openvino', precision: 'bf16' })
  })

  it('does not bring the conditions under which it was compared', async () => {
    const { result } = await tuneFakeMachine(
      { speed },
      { stages, untuned, untunedConditions: { buildEngines: false } },
    )
    expect(result.settings).toEqual({ ...untuned, precision: 'bf16' })
  })

  it('has time kept for it: a search that takes all of its own does not take that', async () => {
    let nowMs = 0
    const { experiments } = await tuneFakeMachine(
      {
        speed,
        factor: (_settings, scenario) => {
          if (scenario === '1 client') nowMs += 250
          return 1
        },
      },
      { stages: fourStages, untuned, finalRounds: 6, budgetMs: 100_000, nowMs: () => nowMs },
    )
    expect(experiments.filter(({ stage }) => stage === 'defaults')).toHaveLength(1)
  })
})
