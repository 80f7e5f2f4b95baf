/** Float32 values as JSON numbers: the shortest decimal text that reads back as the same float32. For response bodies
 * and files of vectors: 60 % of the bytes that JSON.stringify makes of them, in a fifth of its time. */

import { EmbedError } from './errors.ts'

/** '-' and 21 digits, a comma, and two bytes that the eight-digit writes may touch behind the end. */
const maxBytesPerValue = 25

const digitZero = 0x30
const point = 0x2e
const minus = 0x2d
const comma = 0x2c
const openBracket = 0x5b
const closeBracket = 0x5d

/** Half the distance to the next float32, by biased exponent. */
const halfSteps = Float64Array.from({ length: 256 }, (_, exponent) => 2 ** (exponent - 127 - 24))

let scratch = Buffer.allocUnsafeSlow(1 << 16)

/** The shortest decimal text for which Math.fround(Number(text)) === value, valid JSON; '-0' keeps its sign.
 * @throws {EmbedError} INTERNAL on NaN and infinity, which JSON cannot hold */
export function formatFloat32(value: number): string {
  if (!Number.isFinite(value)) {
    throw new EmbedError('INTERNAL', { reason: `${value} in a vector, JSON has no text for it` })
  }
  if (value === 0) return Object.is(value, -0) ? '-0' : '0'
  for (let digits = 1; digits < 9; digits += 1) {
    const candidate = Number(value.toPrecision(digits))
    if (Math.fround(candidate) === value) return String(candidate)
  }
  // Nine digits tell any two float32 values apart.
  return String(Number(value.toPrecision(9)))
}

/** values[start..end) as the text of a JSON array, every number as formatFloat32 writes it.
 * @throws {EmbedError} INTERNAL on NaN and infinity */
export function appendFloat32Array(values: Float32Array, start = 0, end = values.length): string {
  const neededBytes = float32ArrayTextMaxBytes(end - start)
  if (scratch.length < neededBytes) scratch = Buffer.allocUnsafeSlow(neededBytes)
  return scratch.toString('latin1', 0, writeFloat32Array(values, start, end, scratch, 0))
}

/** Room that writeFloat32Array needs for that many values. */
export function float32ArrayTextMaxBytes(count: number): number {
  return 2 + count * maxBytesPerValue
}

/** Writes what appendFloat32Array gives as ASCII bytes, without a string between.
 * @param target room for float32ArrayTextMaxBytes(end - start) from `offset`; bytes behind the text may be overwritten
 * @returns offset behind the text   @throws {EmbedError} INTERNAL on NaN and infinity */
export function writeFloat32Array(
  values: Float32Array,
  start: number,
  end: number,
  target: Uint8Array,
  offset: number,
): number {
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength)
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  let at = offset
  target[at++] = openBracket
  // One flat loop: with the digits in a function of their own it takes twice the time.
  for (let i = start; i < end; i += 1) {
    const magnitude = Math.abs(values[i]!)
    let wholeDigits = 0
    let leadingZeros = 0
    let scale = 0
    if (magnitude < 1) {
      if (magnitude >= 0.01) {
        scale = magnitude < 0.1 ? 1e9 : 1e8
        leadingZeros = magnitude < 0.1 ? 1 : 0
      } else if (magnitude >= 0.001) {
        scale = 1e10
        leadingZeros = 2
      } else if (magnitude >= 0.00001) {
        scale = magnitude < 0.0001 ? 1e12 : 1e11
        leadingZeros = magnitude < 0.0001 ? 4 : 3
      }
    } else if (magnitude < 1000) {
      wholeDigits = magnitude < 10 ? 1 : magnitude < 100 ? 2 : 3
      scale = magnitude < 10 ? 1e7 : magnitude < 100 ? 1e6 : 1e5
    }
    if (scale !== 0) {
      // exact has eight digits before its point; what lies nearer to it than halfStep reads back as the value.
      const exact = magnitude * scale
      const halfStep = halfSteps[(bits[i]! >>> 23) & 255]! * scale
      let digits = (exact + 0.5) | 0
      let digitCount = 8
      let ninthDigit = 0
      if (Math.abs(digits - exact) < halfStep) {
        let fewer = ((exact * 0.1 + 0.5) | 0) * 10
        for (let unit = 100; Math.abs(fewer - exact) < halfStep; unit *= 10) {
          digits = fewer
          digitCount -= 1
          fewer = ((exact / unit + 0.5) | 0) * unit
        }
      } else {
        const nineDigits = (exact * 10 + 0.5) | 0
        digits = (nineDigits / 10) | 0
        ninthDigit = nineDigits - digits * 10
        digitCount = 9
      }
      // Rounded up to the next power of ten: nine digits do not fit, formatFloat32 takes it.
      if (digits < 100_000_000) {
        target[at] = minus
        at += bits[i]! >>> 31
        if (wholeDigits === 0) {
          view.setUint32(at, 0x30302e30, true) // '0.00'
          view.setUint16(at + 4, 0x3030, true)
          at += 2 + leadingZeros
        }
        const upperDigits = (digits / 10_000) | 0
        view.setUint32(at, toFourDigits(upperDigits), true)
        view.setUint32(at + 4, toFourDigits(digits - upperDigits * 10_000), true)
        target[at + 8] = digitZero + ninthDigit
        if (wholeDigits === 0) {
          at += digitCount
        } else if (digitCount <= wholeDigits) {
          at += wholeDigits
        } else {
          target.copyWithin(at + wholeDigits + 1, at + wholeDigits, at + 9)
          target[at + wholeDigits] = point
          at += digitCount + 1
        }
        target[at++] = comma
        continue
      }
    }
    const text = formatFloat32(values[i]!)
    for (let place = 0; place < text.length; place += 1) target[at++] = text.charCodeAt(place)
    target[at++] = comma
  }
  if (end > start) at -= 1
  target[at++] = closeBracket
  return at
}

/** 0 to 9999 as four ASCII digits in one little-endian word: two digits in each half, then one in each byte. */
function toFourDigits(value: number): number {
  const hundreds = (value * 5243) >>> 19
  const halves = hundreds | ((value - hundreds * 100) << 16)
  const tens = ((halves * 103) >>> 10) & 0x000f000f
  return (tens | ((halves - tens * 10) << 8)) + 0x30303030
}
