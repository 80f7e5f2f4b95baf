/** bf16 and E4M3 as a GPU has them, for the oracles. */
import { widenBfloat16 } from '../../../model/float16.ts'

/** Round to nearest even. @returns bits */
export function toBf16(values: ArrayLike<number>): Uint16Array {
  const bits = new Uint32Array(Float32Array.from(values).buffer)
  const upper = new Uint16Array(bits.length)
  for (let i = 0; i < bits.length; i++) upper[i] = (bits[i]! + 0x7fff + ((bits[i]! >>> 16) & 1)) >>> 16
  return upper
}

export function fromBf16(bits: Uint16Array): Float32Array {
  return widenBfloat16(bits)
}

/** OCP FP8: one sign, four exponent, three mantissa bits, no infinity; 0x7f and 0xff are NaN. */
const e4m3Values: Float32Array = Float32Array.from({ length: 256 }, (_, bits) => {
  const sign = bits & 0x80 ? -1 : 1
  const exponent = (bits >> 3) & 15
  const mantissa = bits & 7
  if (exponent === 15 && mantissa === 7) return Number.NaN
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10))
})

export const e4m3Max = 448

export function fromE4m3(bits: Uint8Array): Float32Array {
  return Float32Array.from(bits, (each) => e4m3Values[each]!)
}
