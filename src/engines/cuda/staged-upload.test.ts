import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import { GpuStream } from '../../hardware/gpu/stream.ts'
import type { StoredTensor } from '../../model/onnx/model-weights.ts'
import { StagedUpload } from './staged-upload.ts'

function makeTensor(bytes: Uint8Array<ArrayBuffer>, delayMs: (begin: number) => number): StoredTensor {
  return {
    type: 'BF16',
    shape: [bytes.length / 2],
    file: 'f',
    byteLength: bytes.length,
    read: async (begin, end) => bytes.slice(begin, end),
    async readInto(memory, begin) {
      await sleep(delayMs(begin))
      memory.set(bytes.subarray(begin, begin + memory.length))
    },
    readFloat32: () => Promise.reject(new Error('not asked for')),
  }
}

const makeBytes = (length: number, from: number) =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + from) % 251)

it('lays tensors end to end on the GPU, whatever order their pieces come in', async () => {
  const fake = await openFakeGpu()
  const stream = new GpuStream(fake.gpu, 's')
  const [first, second] = [makeBytes(1000, 1), makeBytes(130, 5)]
  // The first pieces are the last to be read.
  const tensors = [makeTensor(first, (begin) => 12 - begin / 100), makeTensor(second, () => 0)]
  const target = new DeviceBuffer(fake.gpu, 'target', 1130)
  {
    using staging = new StagedUpload(stream, { pieceBytes: 64 })
    await staging.copy(target.handle, tensors)
    expect([...fake.driver.deviceBytes(target.handle, 1130)]).toEqual([...first, ...second])
    // Again, through the same memory.
    await staging.copy(target.handle, [tensors[1]!, tensors[0]!])
    expect([...fake.driver.deviceBytes(target.handle, 1130)]).toEqual([...second, ...first])
    expect(fake.driver.live.pinnedBuffers).toBe(4)
  }
  expect(fake.driver.live.pinnedBuffers).toBe(0)
  expectClean(fake)
})

it('tells what could not be read, and keeps no memory', async () => {
  const fake = await openFakeGpu()
  const stream = new GpuStream(fake.gpu, 's')
  const target = new DeviceBuffer(fake.gpu, 'target', 1000)
  const tensor = makeTensor(makeBytes(1000, 1), () => 0)
  const cut: StoredTensor = {
    ...tensor,
    readInto: (memory, begin) =>
      begin > 500 ? Promise.reject(new Error('it ends')) : tensor.readInto(memory, begin),
  }
  const upload = async () => {
    using staging = new StagedUpload(stream, { pieceBytes: 64 })
    await staging.copy(target.handle, [cut])
  }
  await expect(upload()).rejects.toThrow('it ends')
  expectClean(fake)
})
