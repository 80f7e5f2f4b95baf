/** TensorRT without C++: its C entry points, and its methods called through their tables.
 *
 * Asynchronous calls run on threads that no CUDA context was made current on; TensorRT then works on CUDA's first
 * device. For another one set CUDA_VISIBLE_DEVICES. */
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { EmbedError } from '../../../errors.ts'
import { ResourceScope } from '../../resource-scope.ts'
import type { Cuda } from '../cuda.ts'
import {
  declareAt,
  declareStruct,
  loadLibrary,
  type NativeFunction,
  type Out,
  type Pointer,
  readPointer,
} from '../library.ts'
import { TensorrtLogger } from './logger.ts'
import {
  destructorTable,
  type MethodName,
  type MethodResult,
  methodTable,
  standsAlone,
  type TensorrtMajor,
  tensorrtMajors,
} from './method-table.ts'

export interface TensorrtPaths {
  /** Of libnvinfer. */
  readonly infer: string
  /** Of libnvonnxparser; needed to build engines only. */
  readonly onnxParser?: string | undefined
}

export interface TensorrtOptions {
  /** Take a major version whose table was read from headers but has never been run. */
  readonly allowUnproven?: boolean
}

export interface TensorrtVersion {
  readonly major: number
  readonly minor: number
  readonly patch: number
}

/** What a method takes: addresses, numbers, text, memory. */
export type Argument = Pointer<string> | null | number | string | boolean | Uint8Array | BigInt64Array

type Method = NativeFunction<[self: Pointer, ...args: Argument[]], unknown>

/** Rank and up to eight sizes, by value. */
declareStruct('nvinfer1_Dims', { nbDims: 'int32_t', d: 'int64_t [8]' })

const provenMajors: readonly number[] = [10]
/** Of the parser's C entry point, as in NvOnnxParser.h since 7.0. */
const NV_ONNX_PARSER_VERSION = 1 * 100

const loaded = new Map<string, Tensorrt>()

/** TensorRT at `paths`, once a process.
 * @param cuda must have a GPU: without one TensorRT 10.6 ends the process in createInferBuilder
 * @throws {EmbedError} TENSORRT_VERSION, GPU_UNAVAILABLE, CUDA_STATUS
 * @throws {Error} the loader's words when a library cannot be opened */
export function loadTensorrt(
  paths: TensorrtPaths,
  cuda: Pick<Cuda, 'cuInit' | 'cuDeviceGetCount'>,
  options: TensorrtOptions = {},
): Tensorrt {
  cuda.cuInit(0)
  const count: Out<number> = [null]
  cuda.cuDeviceGetCount(count)
  if (count[0] === 0) {
    throw new EmbedError('GPU_UNAVAILABLE', {
      reason: 'the driver shows no GPU',
      fix: 'give the process one (a container: --gpus all)',
    })
  }
  const known = loaded.get(paths.infer)
  if (known !== undefined) return known
  const tensorrt = new Tensorrt(paths, options)
  loaded.set(paths.infer, tensorrt)
  return tensorrt
}

export class Tensorrt {
  readonly version: TensorrtVersion
  readonly logger: TensorrtLogger
  /** Builders and runtimes that are alive. */
  readonly children = new ResourceScope()
  readonly #paths: TensorrtPaths
  readonly #major: TensorrtMajor
  readonly #versionNumber: number
  /** By function and method. */
  readonly #methods = new Map<string, Method>()

  /** @throws {EmbedError} TENSORRT_VERSION */
  constructor(paths: TensorrtPaths, options: TensorrtOptions) {
    this.#paths = paths
    this.#versionNumber = loadLibrary(paths.infer).declare<[], number>('int32_t getInferLibVersion()')()
    this.version = parseVersion(this.#versionNumber)
    this.#major = this.#checkVersion(options.allowUnproven ?? false)
    this.logger = new TensorrtLogger(this.#major)
  }

  get versionText(): string {
    const { major, minor, patch } = this.version
    return `${major}.${minor}.${patch}`
  }

  /** @throws {EmbedError} TENSORRT_FAILED, TENSORRT_VERSION */
  createInferBuilder(): Pointer {
    this.#loadBuilderResources()
    return this.#createChecked('createInferBuilder_INTERNAL', 'IBuilder::getMaxThreads')
  }

  /** @throws {EmbedError} TENSORRT_FAILED, TENSORRT_VERSION */
  createInferRuntime(): Pointer {
    return this.#createChecked('createInferRuntime_INTERNAL', 'IRuntime::getMaxThreads')
  }

  /** @throws {EmbedError} TENSORRT_FAILED */
  createOnnxParser(network: Pointer): Pointer {
    const path = this.#paths.onnxParser
    if (path === undefined) {
      throw new EmbedError('LIBRARY_NOT_FOUND', {
        library: 'libnvonnxparser',
        searched: [],
        fix: 'it comes with TensorRT; doctor tells where it was looked for',
      })
    }
    const api = 'createNvOnnxParser_INTERNAL'
    const create = loadLibrary(path).declare<
      [network: Pointer, logger: Pointer, version: number],
      Pointer | null
    >(`void *${api}(void *network, void *logger, int version)`)
    this.logger.takeErrors()
    return this.need(api, create(network, this.logger.pointer, NV_ONNX_PARSER_VERSION))
  }

  /** Calls a method of the object at `object`. */
  call<Name extends MethodName>(
    object: Pointer,
    method: Name,
    args: readonly Argument[] = [],
  ): MethodResult<Name> {
    const [self, run] = this.#find(object, method)
    return run(self, ...args) as MethodResult<Name>
  }

  /** The same on another thread; objects and memory involved must stay alive until it settles. */
  async callAsync<Name extends MethodName>(
    object: Pointer,
    method: Name,
    args: readonly Argument[],
  ): Promise<MethodResult<Name>> {
    const [self, run] = this.#find(object, method)
    return (await run.async(self, ...args)) as MethodResult<Name>
  }

  /** C++'s delete. */
  destroy(object: Pointer, kind: keyof typeof destructorTable): void {
    const position = destructorTable[kind][this.#column]
    const prototype = `void ${kind}_delete(void *self)`
    declareAt<[self: Pointer], void, void>(readPointer(readPointer(object, 0), position), prototype)(object)
  }

  /** What a method gave, unless it is null or false. @throws {EmbedError} TENSORRT_FAILED with TensorRT's words */
  need<Value>(api: string, value: Value): Exclude<Value, null | false> {
    if (value === null || value === false) throw this.failure(api)
    return value as Exclude<Value, null | false>
  }

  failure(api: string): EmbedError {
    const errors = this.logger.takeErrors()
    return new EmbedError('TENSORRT_FAILED', { api, reason: errors.join('; ') || 'it gave no reason' })
  }

  /** The builder opens its kernels by bare name, which finds them in LD_LIBRARY_PATH or among what is open already. */
  #loadBuilderResources(): void {
    const folder = dirname(this.#paths.infer)
    const names = existsSync(folder) ? readdirSync(folder) : []
    for (const name of names.filter((each) => each.startsWith('libnvinfer_builder_resource'))) {
      try {
        loadLibrary(join(folder, name))
      } catch {
        // Not every file there is for this machine; TensorRT says what it misses.
      }
    }
  }

  get #column(): 0 | 1 {
    return this.#major === 10 ? 0 : 1
  }

  #find(object: Pointer, method: MethodName): [self: Pointer, run: Method] {
    const declaration = methodTable[method]
    const isAlone = standsAlone(method)
    const self = isAlone ? object : readPointer(object, 1)
    const fn = readPointer(readPointer(self, 0), declaration[this.#column] + (isAlone ? 0 : 2))
    const key = `${method} ${fn}`
    let run = this.#methods.get(key)
    if (run === undefined) {
      run = declareAt<[self: Pointer, ...args: Argument[]], unknown, unknown>(fn, declaration[2])
      this.#methods.set(key, run)
    }
    return [self, run]
  }

  #createChecked(api: string, harmlessRead: 'IBuilder::getMaxThreads' | 'IRuntime::getMaxThreads'): Pointer {
    const create = loadLibrary(this.#paths.infer).declare<[logger: Pointer, version: number], Pointer | null>(
      `void *${api}(void *logger, int32_t version)`,
    )
    this.logger.takeErrors()
    const object = create(this.logger.pointer, this.#versionNumber)
    const errors = this.logger.takeErrors()
    // What it gives after an error need not be null: 10.6 without a driver gives 512.
    if (object === null || errors.length > 0) {
      throw new EmbedError('TENSORRT_FAILED', { api, reason: errors.join('; ') || 'it gave no reason' })
    }
    const threads = this.call(object, harmlessRead)
    // 1 by default; anything else in that place of the table is hardly ever a small number.
    if (threads < 1 || threads > 4096) {
      throw this.#refuse(`${harmlessRead} reads ${threads}, so its methods stand elsewhere`)
    }
    return object
  }

  #checkVersion(allowUnproven: boolean): TensorrtMajor {
    const { major } = this.version
    const known = tensorrtMajors.find((each) => each === major)
    if (known === undefined) throw this.#refuse('its methods are unknown here')
    if (!provenMajors.includes(known) && !allowUnproven) {
      throw this.#refuse('it has never been run with this package')
    }
    return known
  }

  #refuse(reason: string): EmbedError {
    const supported = provenMajors.map((major) => `${major}.x`).join(', ')
    return new EmbedError('TENSORRT_VERSION', { version: this.versionText, supported, reason })
  }
}

/** 100600 is 10.6.0; before 10 a thousand was a major version: 8601 is 8.6.1. */
export function parseVersion(number: number): TensorrtVersion {
  const perMajor = number >= 100_000 ? 10_000 : 1000
  return {
    major: Math.floor(number / perMajor),
    minor: Math.floor((number % perMajor) / 100),
    patch: number % 100,
  }
}
