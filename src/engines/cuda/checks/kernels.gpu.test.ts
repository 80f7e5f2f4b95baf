/** What the emulator claims, on a GPU: every kernel and every product against its oracle, at real sizes too. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { realCuda } from '../../../../test/fixtures/real-gpu.ts'
import { realNvrtc } from '../../../../test/fixtures/real-nvrtc.ts'
import { loadCublaslt } from '../../../hardware/ffi/cublaslt.ts'
import { KernelCompiler } from '../../../hardware/gpu/compiler.ts'
import { type GpuContext, openGpu } from '../../../hardware/gpu/context.ts'
import { MatmulLibrary } from '../../../hardware/gpu/matmul.ts'
import { findCudaLibrary } from '../../../hardware/machine/cuda-libraries.ts'
import { KernelLoader } from '../kernels/kernel-loader.ts'
import { canRun, findFailures, type KernelCheck } from './kernel-bench.ts'
import { kernelChecks } from './kernel-checks.ts'
import { makeMatmulChecks } from './matmul-checks.ts'

const cublaslt = findCudaLibrary('libcublasLt', { libraryPath: process.env['LD_LIBRARY_PATH'] }).found?.path

describe.skipIf(realCuda === undefined || realNvrtc === undefined)('kernels on a GPU', () => {
  let gpu: GpuContext
  let loader: KernelLoader
  beforeAll(async () => {
    gpu = await openGpu(realCuda!)
    loader = new KernelLoader(gpu, new KernelCompiler(realNvrtc!))
  })
  afterAll(() => gpu[Symbol.dispose]())

  const runsHere = (check: KernelCheck) => {
    const { major, minor } = gpu.device.computeCapability
    return canRun(check, major * 10 + minor)
  }

  for (const check of kernelChecks) {
    it(check.name, { timeout: 120_000 }, async (test) => {
      test.skip(!runsHere(check), 'it is for other chips')
      expect(await findFailures(loader, check)).toEqual([])
    })
  }

  it.skipIf(cublaslt === undefined)('multiplies as the CPU does', async () => {
    const library = new MatmulLibrary(gpu, loadCublaslt(cublaslt!))
    for (const check of makeMatmulChecks(library).filter(runsHere)) {
      expect(await findFailures(loader, check)).toEqual([])
    }
  })
})
