import { describe, expect, test } from 'vitest'
import { decodeFloat32 } from '../../../test/fixtures/tiny-model.ts'
import { readTinyQwen3Golden } from '../../../test/fixtures/tiny-qwen3.ts'
import { widenBfloat16, widenFloat16 } from '../float16.ts'
import { convertElements, largestMagnitude, narrow, roundUp, toBytes } from './element-types.ts'

const { rounding } = await readTinyQwen3Golden()
const floats = decodeFloat32(rounding.float32)

const bytesOf = (values: Float32Array | Uint16Array) => new Uint8Array(toBytes(values))

describe.each(['bfloat16', 'float16', 'float8e4m3fn'] as const)('%s', (type) => {
  test('is rounded as torch rounds', () => {
    const wrong = [...narrow(floats, type)].flatMap((bits, i) =>
      bits === rounding[type][i] ? [] : [{ value: floats[i], bits, torch: rounding[type][i] }],
    )
    expect(wrong).toEqual([])
    expect(floats.length).toBeGreaterThan(800)
  })

  test('comes out the same from f32 and from the 16 bits of a file', () => {
    const halves = Uint16Array.from(rounding.bfloat16)
    const scale = 0.037
    expect(convertElements(bytesOf(halves), 'BF16', type, scale)).toEqual(
      convertElements(bytesOf(widenBfloat16(halves)), 'F32', type, scale),
    )
  })
})

test('what needs no conversion is given back as it is', () => {
  const halves = Uint16Array.of(0x3f80, 0x7fc0, 0xff80)
  expect(convertElements(bytesOf(halves), 'BF16', 'bfloat16')).toEqual(halves)
  expect(convertElements(bytesOf(floats), 'F32', 'float')).toEqual(floats)
  expect(convertElements(bytesOf(halves), 'BF16', 'float')).toEqual(Float32Array.of(1, NaN, -Infinity))
})

test('NaN stays NaN, infinity becomes the largest number of E4M3', () => {
  const special = Float32Array.of(NaN, Infinity, -Infinity)
  expect([...narrow(special, 'float8e4m3fn')]).toEqual([0x7f, 0x7e, 0xfe])
  expect([...widenFloat16(narrow(special, 'float16') as Uint16Array)]).toEqual([...special])
  expect([...widenBfloat16(narrow(special, 'bfloat16') as Uint16Array)]).toEqual([...special])
})

test('the largest magnitude is found in each stored type, and what is not finite shows', () => {
  const values = Float32Array.of(0.5, -3, 2)
  expect(largestMagnitude(bytesOf(values), 'F32')).toBe(3)
  expect(largestMagnitude(bytesOf(narrow(values, 'bfloat16') as Uint16Array), 'BF16')).toBe(3)
  expect(largestMagnitude(bytesOf(narrow(values, 'float16') as Uint16Array), 'F16')).toBe(3)
  for (const bad of [NaN, -Infinity]) {
    expect(largestMagnitude(bytesOf(Float32Array.of(1, bad, 2)), 'F32')).toBe(Infinity)
    const halves = narrow(Float32Array.of(1, bad, 2), 'bfloat16') as Uint16Array
    expect(largestMagnitude(bytesOf(halves), 'BF16')).toBe(Infinity)
  }
})

test('a scale is rounded up, never down', () => {
  for (const type of ['float', 'float16', 'bfloat16'] as const) {
    const step = { float: 2 ** -23, float16: 2 ** -10, bfloat16: 2 ** -7 }[type]
    expect(roundUp(1.5, type)).toBe(1.5)
    expect(roundUp(1.5 + step / 100, type)).toBe(1.5 + step)
  }
})
