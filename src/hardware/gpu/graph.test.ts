import { expect, it } from 'vitest'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { DeviceBuffer } from './device-buffer.ts'
import { GpuEvent } from './event.ts'
import { captureGraph, countGraphNodes } from './graph.ts'
import { PinnedBuffer } from './pinned-buffer.ts'
import { GpuStream } from './stream.ts'

it('records without running, and runs the whole at every launch', async () => {
  const fake = await openFakeGpu()
  const { gpu, driver } = fake
  const [stream, beside] = [new GpuStream(gpu, 'main'), new GpuStream(gpu, 'beside')]
  const [input, output] = [new PinnedBuffer(gpu, 'in', 8), new PinnedBuffer(gpu, 'out', 8)]
  const device = new DeviceBuffer(gpu, 'd', 8)
  const [fork, join] = [new GpuEvent(gpu, { timing: false }), new GpuEvent(gpu, { timing: false })]
  const graph = captureGraph(stream, () => {
    stream.copy(device, input)
    fork.record(stream)
    beside.waitFor(fork)
    beside.copy(output, device)
    join.record(beside)
    stream.waitFor(join)
  })
  await stream.idle()
  expect([driver.timeline.executed, driver.live.graphs, driver.live.graphExecs]).toEqual([[], 0, 1])
  for (const value of [1, 2]) {
    input.uint8().fill(value)
    graph.launch(stream)
    await stream.idle()
    expect([...output.uint8()]).toEqual(Array(8).fill(value))
  }
  graph[Symbol.dispose]()
  graph[Symbol.dispose]()
  expect(thrownBy(() => graph.launch(stream)).code).toBe('USED_AFTER_FREE')
  expectClean(fake)
})

it('counts what is recorded', async () => {
  const fake = await openFakeGpu()
  const stream = new GpuStream(fake.gpu, 'main')
  const device = new DeviceBuffer(fake.gpu, 'd', 8)
  const count = countGraphNodes(stream, () => {
    stream.setBytes(device, 1)
    stream.setBytes(device, 2)
  })
  await stream.idle()
  expect([count, fake.driver.timeline.executed, fake.driver.live.graphs]).toEqual([2, [], 0])
  expectClean(fake)
})

it('frees the recording when what it records fails, and the stream works on', async () => {
  const fake = await openFakeGpu()
  const { gpu, driver } = fake
  const stream = new GpuStream(gpu, 'main')
  const device = new DeviceBuffer(gpu, 'd', 8)
  expect(() =>
    captureGraph(stream, () => {
      stream.setBytes(device, 1)
      throw new Error('a stage failed')
    }),
  ).toThrow('a stage failed')
  // Memory cannot be had while a stream records.
  expect(thrownBy(() => captureGraph(stream, () => void new DeviceBuffer(gpu, 'late', 8)))).toMatchObject({
    code: 'CUDA_STATUS',
  })
  driver.fail('cuGraphInstantiateWithFlags', 1)
  expect(thrownBy(() => captureGraph(stream, () => stream.setBytes(device, 1))).code).toBe('CUDA_STATUS')
  expect([driver.live.graphs, driver.live.graphExecs]).toEqual([0, 0])
  stream.setBytes(device, 3)
  await stream.idle()
  expect([...driver.deviceBytes(device.handle, 8)]).toEqual(Array(8).fill(3))
  expectClean(fake)
})
