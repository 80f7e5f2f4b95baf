/** What every kernel computes, against its oracle, without a GPU: the same sources run by the emulator. */
import { describe, expect, it } from 'vitest'
import { canEmulate, openEmulatedGpu } from '../../../../test/fakes/emulated-gpu.ts'
import { kernelFiles, KernelLoader } from '../kernels/kernel-loader.ts'
import { findFailures } from './kernel-bench.ts'
import { kernelChecks } from './kernel-checks.ts'

const small = kernelChecks.filter(({ size }) => size === 'small')

// A kernel that has changed is compiled first, which a busy machine takes its time for.
describe.skipIf(!canEmulate)('kernels, emulated', { timeout: 120_000 }, async () => {
  const { gpu, compiler } = await openEmulatedGpu()
  const loader = new KernelLoader(gpu, compiler)

  for (const check of small) {
    it(check.name, async () => {
      expect(await findFailures(loader, check)).toEqual([])
    })
  }
})

it('every kernel has a small check and one of real size', () => {
  for (const size of ['small', 'real'] as const) {
    const named = new Set(
      kernelChecks.filter((check) => check.size === size).map(({ name }) => name.split(' ')[0]),
    )
    expect(named).toEqual(new Set(kernelFiles))
  }
})
