import { expect, it } from 'vitest'
import { planPooled, pooledTokenOf } from './pooled-rows.ts'

it('finds the row of the pooled token, and the queries it is among', () => {
  const last = planPooled(Int32Array.of(0, 1, 65, 130, 259), 'last', { queries: 64 })
  expect([...last.rows]).toEqual([0, 64, 129, 258])
  expect([...last.tiles]).toEqual([0, 1, 0, 0, 1, 64, 0, 0, 65, 65, 64, 0, 130, 129, 128, 0])
  expect([...last.cumulativeLengths]).toEqual([0, 1, 2, 3, 4])
  const first = planPooled(Int32Array.of(0, 70, 75), 'first', { queries: 64 })
  expect([...first.rows]).toEqual([0, 70])
  expect([...first.tiles]).toEqual([0, 70, 0, 0, 70, 5, 0, 0])
})

it('tells apart where a token is and where the attention has it', () => {
  const whole = Int32Array.of(0, 70, 150)
  const { rows, tiles } = planPooled(Int32Array.of(0, 70, 90), 'last', { queries: 64, whole })
  expect([...rows]).toEqual([69, 89])
  expect([...tiles]).toEqual([0, 70, 64, 0, 70, 80, 64, 0])
})

it('knows no one token of a mean', () => {
  expect((['last-token', 'cls', 'mean'] as const).map(pooledTokenOf)).toEqual(['last', 'first', undefined])
})
