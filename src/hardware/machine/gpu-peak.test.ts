import { describe, expect, it } from 'vitest'
import { FakeCublaslt } from '../../../test/fakes/cublaslt.ts'
import { canEmulate, openEmulatedLibraries } from '../../../test/fakes/emulated-gpu.ts'
import { expectClean, openFakeGpu } from '../../../test/fakes/fake-gpu.ts'
import { openGpu } from '../gpu/context.ts'
import { measureGpuPeak } from './gpu-peak.ts'

describe("the GPU's peak", () => {
  it('is the fastest algorithm and the fastest copy; all is freed', async () => {
    const fake = await openFakeGpu({ l2CacheBytes: 4096 })
    const cublaslt = new FakeCublaslt(fake.driver)
    cublaslt.algorithms = [{ durationMs: 4 }, { durationMs: 2 }]
    const peak = await measureGpuPeak(fake.gpu, cublaslt.api, { size: 64, copyBytes: 1 << 20 })
    const expected = (2 * 64 ** 3) / 0.002
    expect(peak.flopsByPrecision.bf16! / expected).toBeCloseTo(1, 3)
    expect(peak.flopsByPrecision.fp8! / expected).toBeCloseTo(1, 3)
    expect(peak.memoryBytesPerSecond).toBeGreaterThan(0)
    expect(cublaslt.live).toEqual([])
    expectClean(fake)
  })

  it('leaves out what the GPU cannot multiply at', async () => {
    const fake = await openFakeGpu({ l2CacheBytes: 4096 })
    const cublaslt = new FakeCublaslt(fake.driver)
    // 15: CUBLAS_STATUS_NOT_SUPPORTED
    cublaslt.status = 15
    const peak = await measureGpuPeak(fake.gpu, cublaslt.api, { size: 64, copyBytes: 1 << 20 })
    expect(peak.flopsByPrecision).toEqual({})
    expectClean(fake)
  })

  it.skipIf(!canEmulate)(
    'goes through the real calls: a driver and a cuBLASLt in C that compute',
    async () => {
      const { cuda, cublaslt } = await openEmulatedLibraries()
      using gpu = await openGpu(cuda)
      const peak = await measureGpuPeak(gpu, cublaslt, { size: 64, copyBytes: 1 << 20 })
      // Every pair of its events is 1.25 ms apart.
      expect(peak).toEqual({
        flopsByPrecision: { bf16: (2 * 64 ** 3) / 0.00125, fp8: (2 * 64 ** 3) / 0.00125 },
        memoryBytesPerSecond: (2 << 20) / 0.00125,
      })
    },
  )
})
