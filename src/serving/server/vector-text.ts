/** A vector as the text of a JSON value, in each of the output types. */
import { type QuantizedType, quantizeVector } from '../../engines/quantize-vectors.ts'
import { appendFloat32Array } from '../../float32-text.ts'

export type OutputType = 'float' | QuantizedType

/** @param asBase64 the bytes of the array (float32 little-endian, or int8, or uint8) instead of its numbers */
export function vectorWriter(type: OutputType, asBase64: boolean): (vector: Float32Array) => string {
  if (type === 'float') return asBase64 ? toBase64 : toNumbers
  if (asBase64) return (vector) => toBase64(quantizeVector(vector, type))
  return (vector) => `[${quantizeVector(vector, type).join(',')}]`
}

function toNumbers(vector: Float32Array): string {
  return appendFloat32Array(vector, 0, vector.length)
}

function toBase64({ buffer, byteOffset, byteLength }: Float32Array | Int8Array | Uint8Array): string {
  return `"${Buffer.from(buffer, byteOffset, byteLength).toString('base64')}"`
}
