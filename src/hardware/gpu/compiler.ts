/** CUDA C++ to machine code for the chip that is there, compiled once a machine and kept on disk. */
import { statSync } from 'node:fs'
import type { Nvrtc, NvrtcProgram } from '../ffi/nvrtc.ts'
import { type Out, readOut } from '../ffi/library.ts'
import { EmbedError } from '../../errors.ts'
import type { DiskCache } from './disk-cache.ts'

export interface KernelSource {
  /** For messages, e.g. 'layernorm.cu'. */
  readonly name: string
  readonly code: string
  /** What `#include "name"` finds; nothing is read from disk. */
  readonly headers?: Readonly<Record<string, string>>
}

export interface CompileTarget {
  /** sm_90: machine code. compute_90: PTX, which the driver compiles when it is loaded. */
  readonly architecture: string
}

export interface CompileRequest {
  readonly source: KernelSource
  readonly target: CompileTarget
  /** -D options: shapes known when a model is loaded. */
  readonly defines?: Readonly<Record<string, string | number>>
}

export interface KernelCompilerOptions {
  readonly cache?: DiskCache
  /** Of the driver: it compiles PTX, and may do so differently. */
  readonly driverVersion?: number
}

export class KernelCompiler {
  /** Major and minor version of NVRTC. */
  readonly version: string
  /** What machine code can be made for, ascending: 90 for sm_90. */
  readonly architectures: readonly number[]
  readonly #nvrtc: Nvrtc
  readonly #options: KernelCompilerOptions
  readonly #libraryBytes: number
  /** Compilations under way, so that two engines do not make the same twice. */
  readonly #running = new Map<string, Promise<Uint8Array>>()

  /** @throws {EmbedError} NVRTC_STATUS */
  constructor(nvrtc: Nvrtc, options: KernelCompilerOptions = {}) {
    const [major, minor]: [Out<number>, Out<number>] = [[null], [null]]
    nvrtc.nvrtcVersion(major, minor)
    this.version = `${major[0]}.${minor[0]}`
    const architectures = new Int32Array(readOut<number>((out) => nvrtc.nvrtcGetNumSupportedArchs(out)))
    nvrtc.nvrtcGetSupportedArchs(architectures)
    this.architectures = [...architectures].sort((a, b) => a - b)
    this.#nvrtc = nvrtc
    this.#options = options
    // The version does not tell patch releases apart; the file does.
    this.#libraryBytes = statSync(nvrtc.path).size
  }

  /** Machine code where NVRTC knows the chip; else PTX of the newest it knows that is older: the driver compiles that.
   * @param variant 'a' for what only this very chip has, as wgmma on 9.0
   * @throws {EmbedError} GPU_UNAVAILABLE when NVRTC is too new for the chip, or lacks its variant */
  targetFor(chip: { readonly major: number; readonly minor: number }, variant: '' | 'a' = ''): CompileTarget {
    const architecture = chip.major * 10 + chip.minor
    if (this.architectures.includes(architecture)) return { architecture: `sm_${architecture}${variant}` }
    const older = variant === '' ? this.architectures.findLast((known) => known < architecture) : undefined
    if (older !== undefined) return { architecture: `compute_${older}` }
    throw new EmbedError('GPU_UNAVAILABLE', {
      reason: `NVRTC ${this.version} makes no code for compute capability ${chip.major}.${chip.minor}`,
      fix: `it does for ${this.architectures.map((known) => `sm_${known}`).join(', ')}; install another version of NVRTC`,
    })
  }

  /** Off the event loop. @returns a cubin, or PTX text that ends in NUL: what GpuModule takes
   * @throws {EmbedError} KERNEL_NOT_COMPILED with the compiler's words, NVRTC_STATUS */
  async compile(request: CompileRequest): Promise<Uint8Array> {
    const options = toOptions(request)
    const isPtx = request.target.architecture.startsWith('compute_')
    const key = [
      {
        nvrtc: this.version,
        libraryBytes: this.#libraryBytes,
        driver: isPtx ? this.#options.driverVersion : 0,
      },
      request.source,
      options,
    ]
    const name = JSON.stringify(key)
    const running = this.#running.get(name) ?? this.#cached(key, () => this.#compile(request, options, isPtx))
    this.#running.set(name, running)
    try {
      return await running
    } finally {
      this.#running.delete(name)
    }
  }

  async #cached(key: unknown, make: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const found = await this.#options.cache?.read(key)
    if (found !== undefined) return found
    const image = await make()
    await this.#options.cache?.write(key, image)
    return image
  }

  async #compile(
    { source, target }: CompileRequest,
    options: readonly string[],
    isPtx: boolean,
  ): Promise<Uint8Array> {
    const nvrtc = this.#nvrtc
    const headers = Object.entries(source.headers ?? {})
    const program = readOut<NvrtcProgram>((out) =>
      nvrtc.nvrtcCreateProgram(
        out,
        source.code,
        source.name,
        headers.length,
        headers.map(([, code]) => code),
        headers.map(([name]) => name),
      ),
    )
    try {
      if (!(await nvrtc.nvrtcCompileProgram.async(program, options.length, options))) {
        const log = this.#read(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
        throw new EmbedError('KERNEL_NOT_COMPILED', {
          kernel: source.name,
          options,
          nvrtc: this.version,
          log: Buffer.from(log.subarray(0, -1)).toString().trim() || `no code for ${target.architecture}`,
        })
      }
      return isPtx
        ? this.#read(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        : this.#read(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    } finally {
      nvrtc.nvrtcDestroyProgram([program])
    }
  }

  #read(
    program: NvrtcProgram,
    sizeOf: (program: NvrtcProgram, bytes: Out<number>) => void,
    read: (program: NvrtcProgram, into: Uint8Array) => void,
  ): Uint8Array {
    const bytes = new Uint8Array(readOut<number>((out) => sizeOf(program, out)))
    read(program, bytes)
    return bytes
  }
}

function toOptions({ target, defines = {} }: CompileRequest): string[] {
  return [
    `-arch=${target.architecture}`,
    '-std=c++17',
    '-default-device',
    ...Object.entries(defines).map(([name, value]) => `-D${name}=${value}`),
  ]
}
