import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { addInPlace, transpose } from './row-major.ts'

test('transposing swaps rows and columns, on and off the tile boundary', () => {
  const size = fc.integer({ min: 1, max: 70 })
  fc.assert(
    fc.property(size, size, (rows, columns) => {
      const source = Float32Array.from({ length: rows * columns }, (_, i) => i)
      const expected = source.map((_, i) => (i % rows) * columns + Math.floor(i / rows))
      expect(transpose(source, rows, columns)).toEqual(expected)
    }),
  )
})

test('a row is added to every row', () => {
  expect(addInPlace(Float32Array.of(1, 2, 3, 4), Float32Array.of(10, 20))).toEqual(
    Float32Array.of(11, 22, 13, 24),
  )
})
