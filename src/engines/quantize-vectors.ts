/** Vectors as bytes: a quarter (int8) or a thirty-second (binary) of the float32 size. */

export const quantizedTypes = ['int8', 'uint8', 'binary', 'ubinary'] as const
export type QuantizedType = (typeof quantizedTypes)[number]

/** What int8 and uint8 can hold of a vector of length 1: components from -range to range. They have a root mean square of
 * 1/sqrt(dimensions), so that 8 times this loses next to nothing to the ends, and the error of the steps is the same
 * for every number of dimensions: cosine 0.9998 to the float32 vector. One range for all vectors, so that dot products
 * stay comparable; none is learnt from data, so that a vector never depends on those computed with it. */
export function int8Range(dimensions: number): number {
  return Math.min(1, 8 / Math.sqrt(dimensions))
}

/** - int8: round(x * 127 / int8Range), -127 to 127; x is about value * int8Range / 127. For vectors of length 1 only.
 * - uint8: int8 + 128.
 * - ubinary: one bit a component, 1 where x > 0, the first in the highest bit, the last byte filled with zeros.
 * - binary: ubinary - 128.
 * The two last are sentence-transformers' quantize_embeddings, byte for byte.
 * @returns one byte a component, or one for eight; caller owns */
export function quantizeVector(vector: Float32Array, type: QuantizedType): Int8Array | Uint8Array {
  if (type === 'int8') return toInt8(vector, new Int8Array(vector.length), 0)
  if (type === 'uint8') return toInt8(vector, new Uint8Array(vector.length), 128)
  const byteCount = Math.ceil(vector.length / 8)
  if (type === 'ubinary') return toBits(vector, new Uint8Array(byteCount), 0)
  return toBits(vector, new Int8Array(byteCount), 128)
}

function toInt8<Bytes extends Int8Array | Uint8Array>(
  vector: Float32Array,
  bytes: Bytes,
  offset: number,
): Bytes {
  const scale = 127 / int8Range(vector.length)
  for (let i = 0; i < vector.length; i++) {
    bytes[i] = Math.max(-127, Math.min(127, Math.round(vector[i]! * scale))) + offset
  }
  return bytes
}

function toBits<Bytes extends Int8Array | Uint8Array>(
  vector: Float32Array,
  bytes: Bytes,
  offset: number,
): Bytes {
  for (let at = 0; at < bytes.length; at++) {
    let byte = 0
    for (let bit = 0; bit < 8; bit++) byte = (byte << 1) | Number((vector[at * 8 + bit] ?? 0) > 0)
    bytes[at] = byte - offset
  }
  return bytes
}
