/** The number formats of weights: from what a safetensors file holds to what a graph computes in. */
import { widenBfloat16, widenFloat16 } from '../float16.ts'

export type StoredType = 'F32' | 'F16' | 'BF16'
/** ONNX's names. */
export type ElementType = 'float' | 'float16' | 'bfloat16' | 'float8e4m3fn'

export type Elements = Float32Array | Uint16Array | Uint8Array

export const elementBytes: Readonly<Record<ElementType, number>> = {
  float: 4,
  float16: 2,
  bfloat16: 2,
  float8e4m3fn: 1,
}

/** The largest number of E4M3. */
export const maxFloat8 = 448

/** Weights in another format, rounded to nearest, ties to even; E4M3 saturates.
 * @param bytes little-endian, borrowed; where nothing changes they are what is given back
 * @param scale what the stored value is divided by first, in f32 */
export function convertElements(
  bytes: Uint8Array<ArrayBuffer>,
  from: StoredType,
  to: ElementType,
  scale = 1,
): Elements {
  if (from === 'F32') {
    const floats = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    return to === 'float' && scale === 1 ? floats : narrow(floats, to, scale)
  }
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2)
  const isUnchanged = (from === 'BF16' && to === 'bfloat16') || (from === 'F16' && to === 'float16')
  if (isUnchanged && scale === 1) return halves
  const widen = from === 'BF16' ? widenBfloat16 : widenFloat16
  if (to === 'float' && scale === 1) return widen(halves)
  // 16 bits have 65536 values: each is converted once, a weight is then one look-up.
  const table = narrow(widen(Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits)), to, scale)
  const converted = allocate(to, halves.length)
  for (let i = 0; i < halves.length; i++) converted[i] = table[halves[i]!]!
  return converted
}

/** f32 -> `to`; the caller owns it. */
export function narrow(floats: Float32Array, to: ElementType, scale = 1): Elements {
  const narrowed = allocate(to, floats.length)
  const encode = encoders[to]
  for (let i = 0; i < floats.length; i++) narrowed[i] = encode(Math.fround(floats[i]! / scale))
  return narrowed
}

/** The largest magnitude of a tensor; NaN and infinity come through as Infinity. */
export function largestMagnitude(bytes: Uint8Array<ArrayBuffer>, from: StoredType): number {
  if (from === 'F32') {
    const floats = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
    let largest = 0
    for (let i = 0; i < floats.length; i++) {
      const magnitude = Math.abs(floats[i]!)
      // Written so that NaN counts as the largest.
      if (!(magnitude <= largest)) largest = Number.isNaN(magnitude) ? Infinity : magnitude
    }
    return largest
  }
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2)
  // Without the sign, the bits of either format are in the order of the magnitudes, infinity and NaN last.
  let largest = 0
  for (let i = 0; i < halves.length; i++) {
    const magnitude = halves[i]! & 0x7fff
    if (magnitude > largest) largest = magnitude
  }
  const [value] = (from === 'BF16' ? widenBfloat16 : widenFloat16)(Uint16Array.of(largest))
  return Number.isNaN(value!) ? Infinity : value!
}

/** The smallest value of `type` that is not below `value`: as a scale it makes the largest quantised number fit. */
export function roundUp(value: number, type: 'float' | 'float16' | 'bfloat16'): number {
  const [nearest] = narrow(Float32Array.of(value), type)
  const decode = (bits: number): number => {
    if (type === 'float') return bits
    return (type === 'bfloat16' ? widenBfloat16 : widenFloat16)(Uint16Array.of(bits))[0]!
  }
  if (decode(nearest!) >= value) return decode(nearest!)
  if (type !== 'float') return decode(nearest! + 1)
  const next = new Float32Array([nearest!])
  new Uint32Array(next.buffer)[0]! += 1
  return next[0]!
}

/** ONNX is little-endian, as is every machine that Node's x64 and arm64 builds run on. */
export function toBytes(elements: Elements | BigInt64Array): Uint8Array {
  return new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength)
}

function allocate(type: ElementType, length: number): Elements {
  if (type === 'float') return new Float32Array(length)
  return type === 'float8e4m3fn' ? new Uint8Array(length) : new Uint16Array(length)
}

const scratch = new Float32Array(1)
const scratchBits = new Uint32Array(scratch.buffer)

const encoders: Readonly<Record<ElementType, (value: number) => number>> = {
  float: (value) => value,
  bfloat16: toBfloat16,
  float16: (value) => toSmallFloat(value, { mantissaBits: 10, bias: 15, infinity: 0x7c00, nan: 0x7e00 }, 15),
  float8e4m3fn: (value) => toSmallFloat(value, { mantissaBits: 3, bias: 7, infinity: 0x7e, nan: 0x7f }, 7),
}

/** bf16 is the upper half of an f32. */
function toBfloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0
  scratch[0] = value
  const bits = scratchBits[0]!
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

interface SmallFloat {
  readonly mantissaBits: number
  readonly bias: number
  /** What stands for numbers beyond the largest: fp16's infinity, E4M3's 448. */
  readonly infinity: number
  readonly nan: number
}

function toSmallFloat(value: number, format: SmallFloat, signPlace: number): number {
  const { mantissaBits, bias, infinity, nan } = format
  if (Number.isNaN(value)) return nan
  scratch[0] = value
  const bits = scratchBits[0]!
  const sign = (bits >>> 31) << signPlace
  const magnitude = Math.abs(value)
  // Below the smallest normal exponent the step stays the same.
  const exponent = Math.max(((bits >>> 23) & 0xff) - 127, 1 - bias)
  const steps = roundHalfEven(magnitude * 2 ** (mantissaBits - exponent))
  // A mantissa that rounds up to the next power of two carries into the exponent by itself.
  const code = steps + ((exponent + bias - 1) << mantissaBits)
  return sign | Math.min(code, infinity)
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest === 0.5) return floor + (floor % 2)
  return rest > 0.5 ? floor + 1 : floor
}
