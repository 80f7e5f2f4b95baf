import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  appendFloat32Array,
  float32ArrayTextMaxBytes,
  formatFloat32,
  writeFloat32Array,
} from './float32-text.ts'

const toFloat32 = (bits: number): number => new Float32Array(Uint32Array.of(bits).buffer)[0]!
const finiteFloat32 = fc
  .integer({ min: 0, max: 0xffffffff })
  .map(toFloat32)
  .filter((value) => Number.isFinite(value))
/** What the fast path takes: 1e-5 to 1000, both signs. */
const commonFloat32 = fc
  .tuple(fc.integer({ min: 0x3727c5ac, max: 0x447a0000 }), fc.boolean())
  .map(([bits, negative]) => (negative ? -toFloat32(bits) : toFloat32(bits)))

/** Fewest significant digits that read back as the value, tried one by one. */
function countNeededDigits(value: number): number {
  for (let digits = 1; digits < 9; digits += 1) {
    if (Math.fround(Number(value.toPrecision(digits))) === value) return digits
  }
  return 9
}

function countDigits(text: string): number {
  const mantissa = text.replace(/^-/, '').replace(/e.*$/, '')
  const digits = mantissa.replace('.', '').replace(/^0+/, '')
  return mantissa.includes('.') ? digits.length : digits.replace(/0+$/, '').length
}

function readBack(text: string): Float32Array {
  const values: unknown = JSON.parse(text)
  if (!Array.isArray(values)) throw new Error(`no array: ${text}`)
  return Float32Array.from(values)
}

describe('formatFloat32', () => {
  it('reads back as the same float32 with the fewest digits, over all finite bit patterns', () => {
    fc.assert(
      fc.property(finiteFloat32, (value) => {
        const text = formatFloat32(value)
        expect(Math.fround(Number(text))).toBe(value)
        expect(Object.is(JSON.parse(text), -0)).toBe(Object.is(value, -0))
        if (value !== 0) expect(countDigits(text)).toBe(countNeededDigits(value))
      }),
      { numRuns: 3000 },
    )
  })

  it.each([
    [0, '0'],
    [-0, '-0'],
    [0.1, '0.1'],
    [1 / 3, '0.33333334'],
    [16777216, '16777216'],
    [1e-45, '1e-45'],
    [3.4028234663852886e38, '3.4028235e+38'],
  ])('writes %s as %s', (value, text) => {
    expect(formatFloat32(Math.fround(value))).toBe(text)
  })

  it('refuses NaN and infinity', () => {
    for (const value of [NaN, Infinity, -Infinity]) {
      expect(() => formatFloat32(value)).toThrow(expect.objectContaining({ code: 'INTERNAL' }))
      expect(() => appendFloat32Array(Float32Array.of(0, value))).toThrow(
        expect.objectContaining({ code: 'INTERNAL' }),
      )
    }
  })
})

describe('appendFloat32Array', () => {
  it('gives a JSON array that reads back bit by bit', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(finiteFloat32, commonFloat32), { maxLength: 40 }), (values) => {
        const vector = Float32Array.from(values)
        expect(new Uint32Array(readBack(appendFloat32Array(vector)).buffer)).toEqual(
          new Uint32Array(vector.buffer),
        )
      }),
      { numRuns: 2000 },
    )
  })

  it('needs as few digits as formatFloat32 in the fast path', () => {
    fc.assert(
      fc.property(commonFloat32, (value) => {
        const text = appendFloat32Array(Float32Array.of(value)).slice(1, -1)
        expect(Math.fround(Number(text))).toBe(value)
        expect(countDigits(text)).toBe(countNeededDigits(value))
      }),
      { numRuns: 20_000 },
    )
  })

  it('holds at powers of two and ten and one step beside them, where the steps change', () => {
    const values: number[] = []
    const bits = new Uint32Array(1)
    const float = new Float32Array(bits.buffer)
    for (const base of [2, 10]) {
      for (let exponent = -45; exponent < 39; exponent += 1) {
        for (const step of [-1, 0, 1]) {
          float[0] = base ** exponent
          bits[0] = bits[0]! + step
          if (Number.isFinite(float[0])) values.push(float[0])
        }
      }
    }
    const texts = appendFloat32Array(Float32Array.from(values)).slice(1, -1).split(',')
    expect(texts).toHaveLength(values.length)
    for (const [place, value] of values.entries()) {
      expect(Math.fround(Number(texts[place]))).toBe(value)
      if (value !== 0) expect(countDigits(texts[place]!)).toBe(countNeededDigits(value))
    }
  })

  it('takes a part of an array, an empty one, and a view that starts inside its buffer', () => {
    const values = Float32Array.of(9, 0.5, -0.25, 12.5, 9)
    expect(appendFloat32Array(values, 1, 4)).toBe('[0.5,-0.25,12.5]')
    expect(appendFloat32Array(values.subarray(1), 0, 3)).toBe('[0.5,-0.25,12.5]')
    expect(appendFloat32Array(values, 2, 2)).toBe('[]')
    expect(appendFloat32Array(Float32Array.of(100, 10, 1, 123, 999.99994))).toBe('[100,10,1,123,999.99994]')
  })

  it('grows beyond its first buffer', () => {
    const vector = new Float32Array(20_000).fill(-0.012345679)
    expect(appendFloat32Array(vector)).toBe(`[${'-0.012345679,'.repeat(20_000).slice(0, -1)}]`)
  })
})

describe('writeFloat32Array', () => {
  it('writes at the offset and stays inside the room it asks for', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(finiteFloat32, commonFloat32), { maxLength: 20 }), (values) => {
        const room = float32ArrayTextMaxBytes(values.length)
        const target = Buffer.alloc(3 + room + 8, 0x7e)
        const end = writeFloat32Array(
          Float32Array.from(values),
          0,
          values.length,
          target.subarray(0, 3 + room),
          3,
        )
        expect(target.toString('latin1', 0, 3)).toBe('~~~')
        expect(target.toString('latin1', 3 + room)).toBe('~'.repeat(8))
        expect(target.toString('latin1', 3, end)).toBe(appendFloat32Array(Float32Array.from(values)))
      }),
    )
  })
})
