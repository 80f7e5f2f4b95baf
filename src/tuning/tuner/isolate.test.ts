import { describe, expect, it } from 'vitest'
import { fourStages, tuneFakeMachine } from '../../../test/fixtures/tune-fake-machine.ts'

describe('after a missed target', () => {
  it('tries each change alone after a missed target, and says what needs another one', async () => {
    const options = { stages: fourStages.slice(0, 2), isTargetMissed: () => true }
    const { entries } = await tuneFakeMachine(
      {
        noise: 0.01,
        // bf16 needs openvino.
        fails: ({ engine, precision }) => (engine === 'onnx' && precision === 'bf16' ? 'start' : undefined),
      },
      options,
    )
    expect(entries.at(-1)).toMatchObject({
      kind: 'isolation',
      results: [
        { change: { engine: 'openvino' }, outcome: 'better' },
        { change: { precision: 'bf16' }, outcome: 'failed' },
      ],
    })
    const reached = await tuneFakeMachine({ noise: 0.01 }, { ...options, isTargetMissed: () => false })
    expect(reached.entries.at(-1)!.kind).toBe('end')
  })
})
