import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { failureOf, thrownBy } from '../../../test/fakes/failure.ts'
import { realNvrtc } from '../../../test/fixtures/real-nvrtc.ts'
import { loadNvrtc, type Nvrtc } from '../ffi/nvrtc.ts'
import { type CompileRequest, KernelCompiler } from './compiler.ts'
import { DiskCache } from './disk-cache.ts'

const scale: CompileRequest = {
  source: {
    name: 'scale.cu',
    code: `#include "factor.cuh"
extern "C" __global__ void scale(float *values) { values[blockIdx.x * WIDTH + threadIdx.x] *= factor(); }`,
    headers: { 'factor.cuh': '__device__ inline float factor() { return FACTOR; }' },
  },
  target: { architecture: 'sm_90' },
  defines: { WIDTH: 256, FACTOR: '2.5f' },
}

const read = (image: Uint8Array) => Buffer.from(image).toString('latin1')

describe.skipIf(realNvrtc === undefined)('the kernel compiler, with NVRTC', () => {
  const nvrtc = realNvrtc!
  let folder: string
  let compilations: number
  let counting: Nvrtc
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'akidb-kernels-'))
    compilations = 0
    const compile = Object.assign(() => true, {
      async: async (...args: Parameters<Nvrtc['nvrtcCompileProgram']>) => {
        compilations++
        return nvrtc.nvrtcCompileProgram.async(...args)
      },
    })
    counting = { ...nvrtc, nvrtcCompileProgram: compile }
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  it('makes machine code for a chip, with headers from memory and shapes from defines', async () => {
    const image = await new KernelCompiler(nvrtc).compile(scale)
    expect([...image.subarray(0, 4)]).toEqual([0x7f, 0x45, 0x4c, 0x46])
    expect(read(image)).toContain('.text.scale')
  })

  it('makes PTX that ends in NUL for a chip that the driver compiles for', async () => {
    const request = { ...scale, target: { architecture: 'compute_80' } }
    const ptx = read(await new KernelCompiler(nvrtc).compile(request))
    expect(ptx).toMatch(/\.target sm_80[^]*\.entry scale\([^]*0f40200000[^]*\0$/)
  })

  it('leaves the event loop alive', async () => {
    let ticks = 0
    const interval = setInterval(() => ticks++, 1)
    await new KernelCompiler(nvrtc).compile(scale)
    clearInterval(interval)
    expect(ticks).toBeGreaterThan(2)
  })

  it("fails with the compiler's words", async () => {
    const compiler = new KernelCompiler(nvrtc)
    const code = scale.source.code.replace('values[', 'value[')
    const error = await failureOf(compiler.compile({ ...scale, source: { ...scale.source, code } }))
    expect(error.code).toBe('KERNEL_NOT_COMPILED')
    expect(error.message).toMatch(/^the kernel scale\.cu .* by NVRTC 13\.0 with -arch=sm_90 .*-DWIDTH=256/)
    expect(error.message).toContain('scale.cu(2): error: identifier "value" is undefined')
  })

  it('tells an architecture that NVRTC does not know', async () => {
    const error = await failureOf(
      new KernelCompiler(nvrtc).compile({ ...scale, target: { architecture: 'sm_42' } }),
    )
    expect(error).toMatchObject({ code: 'NVRTC_STATUS', details: { api: 'nvrtcCompileProgram' } })
  })

  it('chooses machine code where NVRTC knows the chip, PTX of an older one where not', () => {
    const compiler = new KernelCompiler(nvrtc)
    expect(compiler.architectures).toEqual(expect.arrayContaining([80, 89, 90, 100, 110, 120]))
    expect(compiler.targetFor({ major: 9, minor: 0 })).toEqual({ architecture: 'sm_90' })
    expect(compiler.targetFor({ major: 9, minor: 0 }, 'a')).toEqual({ architecture: 'sm_90a' })
    expect(compiler.targetFor({ major: 99, minor: 0 })).toEqual({
      architecture: `compute_${compiler.architectures.at(-1)}`,
    })
    for (const choose of [
      () => compiler.targetFor({ major: 5, minor: 0 }),
      () => compiler.targetFor({ major: 99, minor: 0 }, 'a'),
    ]) {
      expect(thrownBy(choose)).toMatchObject({ code: 'GPU_UNAVAILABLE' })
    }
  })

  describe('with a cache', () => {
    const compilerOf = (driverVersion = 13_000) =>
      new KernelCompiler(counting, { cache: new DiskCache(folder), driverVersion })

    it('compiles once: in one process, and in the next', async () => {
      const compiler = compilerOf()
      const [first, second] = await Promise.all([compiler.compile(scale), compiler.compile(scale)])
      const third = await compilerOf().compile(scale)
      expect(second).toBe(first)
      expect(Buffer.from(third).equals(first)).toBe(true)
      expect(compilations).toBe(1)
      // No temporary file is left.
      expect(await readdir(folder)).toHaveLength(1)
    })

    it('tells apart what changes the code', async () => {
      const { source, target } = scale
      const headers = { 'factor.cuh': '__device__ inline float factor() { return 3 * FACTOR; }' }
      const variants: CompileRequest[] = [
        scale,
        { ...scale, target: { architecture: 'sm_80' } },
        { ...scale, defines: { ...scale.defines, WIDTH: 128 } },
        { ...scale, source: { ...source, code: `${source.code} ` } },
        { source: { ...source, headers }, target, defines: scale.defines! },
      ]
      const images = await Promise.all(variants.map((variant) => compilerOf().compile(variant)))
      expect(compilations).toBe(variants.length)
      for (const [i, variant] of variants.entries()) {
        expect(Buffer.from(await compilerOf().compile(variant)).equals(images[i]!)).toBe(true)
      }
      expect(compilations).toBe(variants.length)
    })

    it('keeps PTX to one driver, machine code to none', async () => {
      const ptx = { ...scale, target: { architecture: 'compute_80' } }
      for (const driver of [13_000, 13_010]) {
        await compilerOf(driver).compile(scale)
        await compilerOf(driver).compile(ptx)
      }
      expect(compilations).toBe(3)
    })

    it('makes a file anew that was cut or changed', async () => {
      const image = await compilerOf().compile(scale)
      const path = join(folder, (await readdir(folder))[0]!)
      const whole = await readFile(path)
      const flipped = Buffer.from(whole)
      flipped[flipped.length - 1]! ^= 1
      for (const damaged of [Buffer.alloc(0), whole.subarray(0, 40), whole.subarray(0, -1), flipped]) {
        await writeFile(path, damaged)
        expect(Buffer.from(await compilerOf().compile(scale)).equals(image)).toBe(true)
        expect((await readFile(path)).equals(whole)).toBe(true)
      }
      expect(compilations).toBe(5)
    })

    it('goes on where it cannot write, and keeps why', async () => {
      const file = join(folder, 'file')
      await writeFile(file, '')
      const cache = new DiskCache(join(file, 'kernels'))
      await new KernelCompiler(counting, { cache }).compile(scale)
      expect(String(cache.writeError)).toContain('ENOTDIR')
      expect((await stat(file)).size).toBe(0)
    })

    it('forgets a compilation that failed', async () => {
      const compiler = compilerOf()
      const wrong = { ...scale, source: { ...scale.source, code: 'wrong' } }
      for (let i = 0; i < 2; i++) await failureOf(compiler.compile(wrong))
      expect([compilations, await readdir(folder)]).toEqual([2, []])
    })
  })
})

it('a library that is none is told by the loader', () => {
  for (const path of ['libnvrtc-absent.so.13', '/absent/libnvrtc.so.13']) {
    expect(() => loadNvrtc(path)).toThrow(/cannot open/)
  }
})
