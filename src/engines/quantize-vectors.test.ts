import { array, assert, double, property } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { int8Range, quantizeVector } from './quantize-vectors.ts'
import { cosine, normalizeRows } from './vectors.ts'

/** Twenty values with zero, negative zero and a subnormal among them; not a multiple of eight. */
const values = Float32Array.from({ length: 20 }, (_, i) => Math.sin(i * 1.7 + 0.3) / 4)
values[7] = 0
values[12] = -0
values[15] = 1e-40

const unitVector = array(double({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 400 })
  .map((numbers) => {
    const vector = Float32Array.from(numbers)
    normalizeRows(vector, 1, vector.length)
    return vector
  })
  .filter((vector) => Math.abs(Math.hypot(...vector) - 1) < 1e-3)

describe('quantizeVector', () => {
  it("gives the bits of sentence-transformers' quantize_embeddings (numpy 2.4.6)", () => {
    expect(quantizeVector(values, 'ubinary')).toEqual(Uint8Array.of(204, 209, 144))
    expect(quantizeVector(values, 'binary')).toEqual(Int8Array.of(76, 81, 16))
    expect(quantizeVector(new Float32Array(9), 'ubinary')).toEqual(Uint8Array.of(0, 0))
    expect(quantizeVector(new Float32Array(9), 'binary')).toEqual(Int8Array.of(-128, -128))
    expect(quantizeVector(new Float32Array(8).fill(1), 'binary')).toEqual(Int8Array.of(127))
  })

  it('has a range of 8 / sqrt(dimensions), at most 1, and saturates beyond it', () => {
    expect([1, 64, 256, 1024].map(int8Range)).toEqual([1, 1, 0.5, 0.25])
    const vector = new Float32Array(256)
    vector.set([0.5, -0.5, 0.9, -0.9, 0.25, -0.25, 0.5 / 127, -0.49 / 127 / 2])
    const int8 = Int8Array.of(127, -127, 127, -127, 64, -63, 1, 0, 0)
    expect(quantizeVector(vector, 'int8').slice(0, 9)).toEqual(int8)
    expect(quantizeVector(vector, 'uint8').slice(0, 9)).toEqual(Uint8Array.from(int8, (x) => x + 128))
  })

  it('gives back every component within half a step, and uint8 is int8 + 128', () => {
    assert(
      property(unitVector, (vector) => {
        const step = int8Range(vector.length) / 127
        const bytes = quantizeVector(vector, 'int8')
        const unsigned = quantizeVector(vector, 'uint8')
        for (const [i, value] of vector.entries()) {
          const inRange = Math.max(-step * 127, Math.min(step * 127, value))
          expect(Math.abs(bytes[i]! * step - inRange)).toBeLessThanOrEqual(step / 2 + 1e-7)
          expect(unsigned[i]).toBe(bytes[i]! + 128)
        }
      }),
      { seed: 5 },
    )
  })

  it('keeps the direction: cosine above 0.9997 whatever the number of dimensions', () => {
    for (const dimensions of [64, 384, 1024, 4096]) {
      const vector = Float32Array.from({ length: dimensions }, (_, i) => Math.sin(i * i + 1))
      normalizeRows(vector, 1, dimensions)
      const back = Float32Array.from(quantizeVector(vector, 'int8'))
      expect(cosine(vector, back), String(dimensions)).toBeGreaterThan(0.9997)
    }
  })
})
