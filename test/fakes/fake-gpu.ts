import { expect } from 'vitest'
import { type GpuContext, openGpu } from '../../src/hardware/gpu/context.ts'
import { FakeCudaDriver, type FakeCudaOptions, type LiveCounts } from './cuda-driver.ts'

export interface FakeGpu {
  readonly driver: FakeCudaDriver
  readonly gpu: GpuContext
}

export async function openFakeGpu(options: FakeCudaOptions = {}): Promise<FakeGpu> {
  const driver = new FakeCudaDriver(options)
  return { driver, gpu: await openGpu(driver.api) }
}

export const nothingLive: LiveCounts = {
  contexts: 0,
  deviceBuffers: 0,
  pinnedBuffers: 0,
  streams: 0,
  events: 0,
  modules: 0,
  graphs: 0,
  graphExecs: 0,
}

/** Frees the GPU, then: nothing is left, and nothing was misused on the way. */
export function expectClean({ driver, gpu }: FakeGpu): void {
  gpu[Symbol.dispose]()
  expect(driver.live).toEqual(nothingLive)
  expect(driver.violations).toEqual([])
}
