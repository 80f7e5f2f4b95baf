import { expect, it } from 'vitest'
import { thrownBy } from '../../../../test/fakes/failure.ts'
import { fromNativeDims, toNativeDims, toTensorType } from './dims.ts'

it('shapes go there and back', () => {
  const native = toNativeDims([-1, 512])
  const bytes = new DataView(native.buffer)
  expect([
    native.byteLength,
    bytes.getInt32(0, true),
    bytes.getBigInt64(8, true),
    bytes.getBigInt64(16, true),
  ]).toEqual([72, 2, -1n, 512n])
  expect(fromNativeDims({ nbDims: 2, d: native.subarray(1) })).toEqual([-1, 512])
  expect(thrownBy(() => toNativeDims(Array<number>(9).fill(1))).code).toBe('INTERNAL')
  expect(thrownBy(() => toTensorType(99)).code).toBe('TENSORRT_FAILED')
})
