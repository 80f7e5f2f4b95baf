/** The oracles' own numbers: what they are compared with must itself be right. */
import { expect, it } from 'vitest'
import { erf } from '../kernels/gelu.check.ts'
import { makeAttentionTiles } from '../kernels/flash-attention.ts'
import { makeRotation } from '../kernels/qk-norm-rope.ts'
import { threadsOfRow } from '../kernels/rows.ts'
import { thrownBy } from '../../../../test/fakes/failure.ts'
import { isPassed } from './kernel-bench.ts'
import { e4m3Max, fromBf16, fromE4m3, toBf16 } from './number-formats.ts'
import { makeNormal } from './random-values.ts'

it('rounds to bf16 to the nearest, ties to even', () => {
  const cases = [
    [1, 1],
    [1 + 2 ** -8, 1],
    [1 + 3 * 2 ** -8, 1 + 2 ** -6],
    [1 + 2 ** -8 + 2 ** -20, 1 + 2 ** -7],
    [-3.1417, -3.140625],
    [0, 0],
  ]
  expect([...fromBf16(toBf16(cases.map(([value]) => value!)))]).toEqual(cases.map(([, rounded]) => rounded))
})

it('reads E4M3 as the OCP specification has it', () => {
  const bits = [0x00, 0x01, 0x07, 0x08, 0x38, 0x39, 0x7e, 0xfe, 0x80]
  const values = [0, 2 ** -9, 7 * 2 ** -9, 2 ** -6, 1, 1.125, e4m3Max, -e4m3Max, -0]
  expect([...fromE4m3(Uint8Array.from(bits))]).toEqual(values)
  expect([...fromE4m3(Uint8Array.of(0x7f, 0xff))]).toEqual([Number.NaN, Number.NaN])
})

it('knows the error function', () => {
  // Abramowitz & Stegun, table 7.1
  for (const [x, value] of [
    [0, 0],
    [0.5, 0.5204998778],
    [1, 0.8427007929],
    [2, 0.995322265],
    [-1, -0.8427007929],
    [3.5, 0.999999256902],
  ] as const)
    expect(erf(x)).toBeCloseTo(value, 9)
})

it('makes normal numbers with outliers', () => {
  const values = makeNormal(100_000, 1, 2)
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const variance = values.reduce((sum, value) => sum + value * value, 0) / values.length
  expect(Math.abs(mean)).toBeLessThan(0.05)
  // 4, and 0.2 % of 64 times as much.
  expect(variance).toBeGreaterThan(4.2)
  expect(variance).toBeLessThan(4.8)
  expect(makeNormal(3, 1)).not.toEqual(makeNormal(3, 2))
})

it('a check passes only when something was compared, all of it within its tolerance and none NaN', () => {
  const fine = { what: 'x', count: 1, nanCount: 0, worst: 1, at: 0, actual: 1, expected: 1 }
  expect(isPassed([fine])).toBe(true)
  expect(isPassed([])).toBe(false)
  expect(isPassed([fine, { ...fine, nanCount: 1 }])).toBe(false)
  expect(isPassed([fine, { ...fine, worst: 1.01 }])).toBe(false)
})

it('spreads a row over the threads of a block', () => {
  expect([8, 384, 2560, 4096, 4104, 9728].map(threadsOfRow)).toEqual([32, 64, 320, 512, 288, 416])
  expect(thrownBy(() => threadsOfRow(100)).message).toContain('a row of 100 values')
})

it('makes the angles of a rotation', () => {
  const table = makeRotation(3, 4, 100)
  // Position 2: frequencies 1 and 1/10.
  const expected = [Math.cos(2), Math.sin(2), Math.cos(0.2), Math.sin(0.2)]
  for (const [i, value] of expected.entries()) expect(table[8 + i]).toBeCloseTo(value, 6)
})

it('gives attention its tiles, those with most keys first, and the rest no work', () => {
  const lengths = Int32Array.of(0, 65, 66, 266)
  expect([...makeAttentionTiles(lengths, { isCausal: true, queries: 64, tileCount: 8 })]).toEqual(
    [
      [66, 200, 192, 0],
      [66, 200, 128, 0],
      [66, 200, 64, 0],
      [0, 65, 64, 0],
      [0, 65, 0, 0],
      [66, 200, 0, 0],
      [65, 1, 0, 0],
      [0, 0, 0, 0],
    ].flat(),
  )
  const both = makeAttentionTiles(lengths, { isCausal: false, queries: 64 })
  expect(both.length).toBe(7 * 4)
  expect([...both.subarray(0, 4)]).toEqual([66, 200, 0, 0])
  expect(
    thrownBy(() => makeAttentionTiles(lengths, { isCausal: true, queries: 64, tileCount: 6 })).message,
  ).toContain('7 attention tiles, room for 6')
})
