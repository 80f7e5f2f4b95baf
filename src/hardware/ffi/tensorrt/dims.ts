/** Shapes and element types as TensorRT writes them. */
import { EmbedError } from '../../../errors.ts'

/** Returned by value. */
export interface NativeDims {
  readonly nbDims: number
  readonly d: BigInt64Array
}

/** By TensorRT's number; DataType of NvInferRuntimeBase.h. */
export const tensorTypes = [
  'fp32',
  'fp16',
  'int8',
  'int32',
  'bool',
  'uint8',
  'fp8',
  'bf16',
  'int64',
  'int4',
  'fp4',
  'e8m0',
] as const
export type TensorType = (typeof tensorTypes)[number]

const maxRank = 8

/** `{ int32 nbDims; int64 d[8] }` in memory. Little-endian, as every machine TensorRT runs on. */
export function toNativeDims(sizes: readonly number[]): BigInt64Array {
  if (sizes.length > maxRank) {
    throw new EmbedError('INTERNAL', {
      reason: `a shape of ${sizes.length} sizes; TensorRT takes ${maxRank}`,
    })
  }
  const native = new BigInt64Array(1 + maxRank)
  native[0] = BigInt(sizes.length)
  native.set(sizes.map(BigInt), 1)
  return native
}

/** -1 is a size still open. A rank below 0 says that there is no such tensor. */
export function fromNativeDims({ nbDims, d }: NativeDims): number[] {
  return Array.from(d.subarray(0, Math.max(0, nbDims)), Number)
}

export function toTensorType(number: number): TensorType {
  const type = tensorTypes[number]
  if (type === undefined) {
    throw new EmbedError('TENSORRT_FAILED', { api: 'DataType', reason: `the type ${number} is unknown here` })
  }
  return type
}
