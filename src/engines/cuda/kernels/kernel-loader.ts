/** From the `.cu` files of this folder to kernels on the GPU. */
import { readFile } from 'node:fs/promises'
import { EmbedError } from '../../../errors.ts'
import type { CompileRequest, CompileTarget } from '../../../hardware/gpu/compiler.ts'
import type { GpuContext } from '../../../hardware/gpu/context.ts'
import { readOut } from '../../../hardware/ffi/library.ts'
import { GpuModule } from '../../../hardware/gpu/module.ts'

export const kernelFiles = [
  'embedding',
  'few_rows_product',
  'flash_attention',
  'gather_rows',
  'gelu',
  'pooling',
  'qk_norm_rope',
  'quantize_rows',
  'residual_layernorm',
  'residual_rmsnorm',
  'swiglu',
] as const
export type KernelFile = (typeof kernelFiles)[number]

const headerFiles = ['ptx.cuh', 'rows.cuh'] as const

/** One compilation: a file with the shapes of a model filled in. */
export interface KernelVariant {
  readonly file: KernelFile
  readonly defines: Readonly<Record<string, number>>
  /** The oldest chip it runs on: 80 is sm_80. */
  readonly minArchitecture: number
}

/** What of KernelCompiler is needed; tests put another in its place. */
export interface SourceCompiler {
  targetFor(chip: { readonly major: number; readonly minor: number }): CompileTarget
  compile(request: CompileRequest): Promise<Uint8Array>
}

export class KernelLoader {
  readonly gpu: GpuContext
  readonly #compiler: SourceCompiler
  readonly #overlapping: boolean
  readonly #modules = new Map<string, Promise<GpuModule>>()

  /** @param options.overlapping whether a kernel's blocks may start before the kernel before is done. Default: where the chip
   *   can, from compute capability 9.0 on, and a driver of CUDA 12.3, whose graphs keep it */
  constructor(
    gpu: GpuContext,
    compiler: SourceCompiler,
    options: { readonly overlapping?: boolean | undefined } = {},
  ) {
    this.gpu = gpu
    this.#compiler = compiler
    this.#overlapping = (options.overlapping ?? true) && canOverlap(gpu)
  }

  /** The same variant is compiled and loaded once; it lives as long as the GPU's context.
   * @throws {EmbedError} GPU_UNAVAILABLE when the chip is too old, KERNEL_NOT_COMPILED, CUDA_STATUS */
  async load(variant: KernelVariant): Promise<GpuModule> {
    const key = JSON.stringify(variant)
    const module = this.#modules.get(key) ?? this.#load(variant)
    this.#modules.set(key, module)
    return module
  }

  async #load({ file, defines, minArchitecture }: KernelVariant): Promise<GpuModule> {
    const chip = this.gpu.device.computeCapability
    if (chip.major * 10 + chip.minor < minArchitecture) {
      throw new EmbedError('GPU_UNAVAILABLE', {
        reason: `${file}.cu needs compute capability ${minArchitecture / 10}, ${this.gpu.device.name} has ${chip.major}.${chip.minor}`,
        fix: minArchitecture > 80 ? 'use --precision bf16' : 'use another engine',
      })
    }
    const source = await readKernelSource(file)
    const target = this.#compiler.targetFor(chip)
    const image = await this.#compiler.compile({ source, defines, target })
    return new GpuModule(this.gpu, file, image, { overlapping: this.#overlapping })
  }
}

function canOverlap({ cuda, device }: GpuContext): boolean {
  const driverVersion = readOut<number>((out) => cuda.cuDriverGetVersion(out))
  return device.computeCapability.major >= 9 && driverVersion >= 12_030
}

/** What NVRTC is given: the file and the headers it includes. */
export async function readKernelSource(file: KernelFile): Promise<CompileRequest['source']> {
  const headers = await Promise.all(headerFiles.map(async (name) => [name, await readBeside(name)] as const))
  return { name: `${file}.cu`, code: await readBeside(`${file}.cu`), headers: Object.fromEntries(headers) }
}

async function readBeside(name: string): Promise<string> {
  return readFile(new URL(name, import.meta.url), 'utf8')
}
