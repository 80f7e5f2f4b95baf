import { describe, expect, it } from 'vitest'
import { descend } from './descend.ts'
import type { KnobValue } from './search-space.ts'

/** Values tried when those of `good` are kept. */
async function walk(
  values: readonly KnobValue[],
  current: KnobValue | undefined,
  good: readonly KnobValue[],
  byDefault?: KnobValue,
) {
  const tried: KnobValue[] = []
  await descend({ key: 'maxBatchSize', values, byDefault }, current, (value) => {
    tried.push(value)
    return Promise.resolve(good.includes(value))
  })
  return tried
}

describe('coordinate descent', () => {
  it('goes up until a value is not kept, and does not turn round after a gain', async () => {
    expect(await walk([4, 8, 16, 32], 8, [16, 32])).toEqual([16, 32])
    expect(await walk([4, 8, 16, 32, 64], 8, [16])).toEqual([16, 32])
  })

  it('goes down where up gave nothing', async () => {
    expect(await walk([4, 8, 16, 32], 16, [8])).toEqual([32, 8, 4])
    expect(await walk([4, 8, 16, 32], 32, [])).toEqual([16])
  })

  it('starts from a value that is not in the list', async () => {
    expect(await walk([4, 8, 16], 1, [4])).toEqual([4, 8])
    expect(await walk([4, 16], 8, [])).toEqual([16, 4])
  })

  it('tries the default first, goes on from there, and not to it a second time', async () => {
    expect(await walk([4, 8, 16, 32, 64], 1, [32], 32)).toEqual([32, 64, 16])
    expect(await walk([4, 8, 16, 32, 64], 1, [4, 8], 32)).toEqual([32, 4, 8, 16])
    expect(await walk([4, 8], 1, [4], 8)).toEqual([8, 4])
    expect(await walk([512, 4096, 8192], 4096, [], 4096)).toEqual([8192, 512])
  })

  it('tries all names, and all where nothing is set', async () => {
    expect(await walk(['onnx', 'openvino', 'tensorrt'], 'onnx', [])).toEqual(['openvino', 'tensorrt'])
    expect(await walk([true, false], true, [])).toEqual([false])
    expect(await walk([1, 2, 4], undefined, [])).toEqual([1, 2, 4])
  })
})
