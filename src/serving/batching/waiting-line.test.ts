import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { waitingInput } from '../../../test/fakes/batching-harness.ts'
import type { QueuedInput } from './queue.ts'
import { WaitingLine } from './waiting-line.ts'

describe('WaitingLine', () => {
  it('agrees with a plain sorted list whatever was added and removed', () => {
    const steps = fc.array(
      fc.oneof(
        fc.record({ add: fc.integer({ min: 1, max: 12 }) }),
        fc.record({ remove: fc.nat(40), at: fc.integer({ min: 0, max: 13 }) }),
      ),
      { maxLength: 80 },
    )
    fc.assert(
      fc.property(steps, (list) => {
        const line = new WaitingLine()
        let plain: QueuedInput[] = []
        for (const [i, step] of list.entries()) {
          if ('add' in step) {
            const input = waitingInput(step.add, i)
            line.add(input)
            plain.push(input)
            continue
          }
          const input = plain[step.remove] ?? waitingInput(3, i)
          expect(line.delete(input)).toBe(plain.includes(input))
          plain = plain.filter((other) => other !== input)
          const below = plain.filter((other) => other.ids.length <= step.at)
          const above = plain.filter((other) => other.ids.length > step.at)
          expect([...line.atMost(step.at)]).toEqual(below.toSorted((a, b) => b.ids.length - a.ids.length))
          expect([...line.moreThan(step.at)]).toEqual(above.toSorted((a, b) => a.ids.length - b.ids.length))
        }
        expect([...line]).toEqual(plain)
        expect(line.oldest).toBe(plain[0])
        expect(line.size).toBe(plain.length)
        expect(line.tokens).toBe(plain.reduce((sum, input) => sum + input.ids.length, 0))
      }),
    )
  })

  it('takes and gives a million inputs in the time of a blink', () => {
    const line = new WaitingLine()
    const inputs = Array.from({ length: 1_000_000 }, (_, i) => waitingInput(1 + (i % 7), i))
    const startMs = performance.now()
    for (const input of inputs) line.add(input)
    for (let i = 0; i < inputs.length; i++) line.delete(line.oldest!)
    expect(line.size).toBe(0)
    // Measured 2 s; with a Set that looks for its first element after each deletion 104 s.
    expect(performance.now() - startMs).toBeLessThan(20_000)
  }, 30_000)
})
