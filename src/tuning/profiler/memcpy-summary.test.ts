import { expect, it } from 'vitest'
import { summariseMemcpys } from './memcpy-summary.ts'
import { makeActivity, makeKernel, makeMemcpy } from '../../../test/fixtures/gpu-activity.ts'

it('by direction and host memory: bytes, GB/s, share of the busy time', () => {
  const activity = makeActivity({
    kernels: [makeKernel({ startNs: 1000, endNs: 1600 })],
    memcpys: [
      makeMemcpy({ startNs: 0, endNs: 100, bytes: 2500 }),
      makeMemcpy({ startNs: 100, endNs: 200, bytes: 2500 }),
      makeMemcpy({ startNs: 200, endNs: 400, bytes: 400, source: 'pageable' }),
      // Beside the kernel: it makes the busy time no longer.
      makeMemcpy({ startNs: 1000, endNs: 1050, bytes: 100, source: 'device', destination: 'pinned' }),
    ],
  })
  const common = { direction: 'host to device', totalNs: 200, share: 0.2 }
  expect(summariseMemcpys(activity)).toEqual([
    { ...common, hostMemory: 'pinned', count: 2, totalBytes: 5000, gbPerSecond: 25 },
    { ...common, hostMemory: 'pageable', count: 1, totalBytes: 400, gbPerSecond: 2 },
    {
      direction: 'device to host',
      hostMemory: 'pinned',
      count: 1,
      totalBytes: 100,
      totalNs: 50,
      gbPerSecond: 2,
      share: 0.05,
    },
  ])
})

it('copies within the GPU concern no host', () => {
  const memcpys = [makeMemcpy({ source: 'device', destination: 'device' })]
  expect(summariseMemcpys(makeActivity({ memcpys }))).toMatchObject([
    { direction: 'device to device', hostMemory: 'device' },
  ])
})
