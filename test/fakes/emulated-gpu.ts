/** A GPU on the CPU: kernels compiled by the C++ compiler against test/fakes/native/cuda-emulator.h, run by the driver of
 * test/fakes/native/cuda.c. What it computes is what a GPU would; how fast says nothing. */
import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { CudaEngineLibraries } from '../../src/engines/cuda/cuda-engine.ts'
import { loadCublaslt } from '../../src/hardware/ffi/cublaslt.ts'
import type { SourceCompiler } from '../../src/engines/cuda/kernels/kernel-loader.ts'
import { loadCuda } from '../../src/hardware/ffi/cuda.ts'
import type { CompileRequest } from '../../src/hardware/gpu/compiler.ts'
import { type GpuContext, openGpu } from '../../src/hardware/gpu/context.ts'
import { cacheDir } from '../fixtures/real-model.ts'
import { canCompile, compileNative } from './native-library.ts'

const run = promisify(execFile)
const emulator = readFileSync(new URL('native/cuda-emulator.h', import.meta.url), 'utf8')
const cxx = ['g++', 'clang++'].find((name) => spawnSync(name, ['--version']).status === 0)

/** False where no C++ compiler is: tests of the kernels' results are then skipped by name. */
export const canEmulate: boolean = canCompile && cxx !== undefined

export async function openEmulatedGpu(): Promise<{ gpu: GpuContext; compiler: SourceCompiler }> {
  return {
    gpu: await openGpu(loadCuda(compileNative('cuda', { EMULATE: 1 }))),
    compiler: new EmulatingCompiler(),
  }
}

/** The same with a cuBLASLt that computes. */
export async function openEmulatedLibraries(): Promise<CudaEngineLibraries> {
  const compiler = new EmulatingCompiler()
  const [cuda, cublaslt] = (paths ??= [
    compileNative('cuda', { EMULATE: 1 }),
    compileNative('cublaslt', { EMULATE: 1 }),
  ])
  return { cuda: loadCuda(cuda), cublaslt: loadCublaslt(cublaslt), compilerFor: () => compiler }
}

let paths: [cuda: string, cublaslt: string] | undefined

/** What has not changed is not compiled again, in the next run neither. */
class EmulatingCompiler implements SourceCompiler {
  readonly #folder = join(cacheDir, 'test-tools', 'emulated')

  targetFor(): { architecture: string } {
    return { architecture: 'sm_90' }
  }

  /** @returns the path of a library, which the emulating driver opens */
  async compile({ source, defines = {} }: CompileRequest): Promise<Uint8Array> {
    const headers = { ...source.headers, 'ptx.cuh': emulator }
    const kernels = [
      ...source.code.matchAll(/__global__[^;{]*?\b(\w+)\(\s*(?:const |bf16|void|float|unsigned|Source)/g),
    ]
    const launchers = kernels.map(
      ([, name]) => `extern "C" __attribute__((visibility("default")))
const char *emulate_${name}(dim3 grid, dim3 block, size_t bytes, void **params) {
  return emulator::launch(${name}, grid, block, bytes, params);
}`,
    )
    const code = [source.code, ...launchers].join('\n')
    // Hidden, lest the variables of one library be taken for those of another.
    const strict = ['-fvisibility=hidden', '-Wall', '-Wno-unknown-pragmas', '-Werror']
    const shapes = Object.entries(defines).map(([name, value]) => `-D${name}=${value}`)
    const flags = ['-shared', '-fPIC', '-O1', '-std=c++17', ...strict, ...shapes]
    const key = createHash('sha256')
      .update(JSON.stringify([code, headers, flags]))
      .digest('hex')
    const output = join(this.#folder, `${key}.so`)
    if (!existsSync(output)) await this.#build(output, { code, headers, flags })
    return Buffer.from(`${output}\0`)
  }

  async #build(
    output: string,
    input: {
      readonly code: string
      readonly headers: Readonly<Record<string, string>>
      readonly flags: readonly string[]
    },
  ): Promise<void> {
    await mkdir(this.#folder, { recursive: true })
    const unfinished = await mkdtemp(`${output}-`)
    try {
      for (const [name, code] of Object.entries({ ...input.headers, 'kernels.cc': input.code }))
        await writeFile(join(unfinished, name), code)
      const library = join(unfinished, 'kernels.so')
      await run(cxx!, [...input.flags, '-o', library, join(unfinished, 'kernels.cc')])
      await rename(library, output)
    } finally {
      await rm(unfinished, { recursive: true, force: true })
    }
  }
}
