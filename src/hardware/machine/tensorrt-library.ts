/** TensorRT of this machine, opened: where it was found, its version, the driver, the GPU it will use. */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { EmbedError } from '../../errors.ts'
import type { Cuda } from '../ffi/cuda.ts'
import { loadTensorrt, type Tensorrt, type TensorrtPaths } from '../ffi/tensorrt/tensorrt.ts'
import { type GpuDevice, readDevice } from '../gpu/device.ts'
import { needCudaLibrary, openCudaDriver, openCudaLibrary } from './cuda-driver.ts'
import { type CudaSearchOptions, findCudaLibrary } from './cuda-libraries.ts'

export interface TensorrtMachine {
  readonly tensorrt: Tensorrt
  readonly cuda: Cuda
  readonly device: GpuDevice
  /** Of the driver's file: '580.65.06'; and the newest CUDA it runs: '13.0'. */
  readonly driverVersion: string
  readonly cudaVersion: string
}

export interface OpenTensorrtOptions {
  readonly search: CudaSearchOptions
  /** Of libnvinfer, or a folder that holds it, in place of a search; the ONNX parser lies beside it. */
  readonly library?: string | undefined
  /** Of the GPU; only 0 can be had, see openTensorrt. */
  readonly deviceId?: number
}

/** Opens the driver and TensorRT, once a process. TensorRT works on the first GPU that CUDA shows, since its calls run on
 * threads without a context; the program hides the others (CUDA_VISIBLE_DEVICES) where another one is asked for.
 * @throws {EmbedError} LIBRARY_NOT_FOUND with the folders searched and the package, GPU_UNAVAILABLE, CUDA_STATUS,
 * ENGINE_UNAVAILABLE (a library that cannot be opened), TENSORRT_VERSION */
export async function openTensorrt(options: OpenTensorrtOptions): Promise<TensorrtMachine> {
  const { deviceId = 0 } = options
  if (deviceId > 0) {
    const reason = `TensorRT works on the first GPU that CUDA shows, GPU ${deviceId} was asked for`
    const fix = `set CUDA_VISIBLE_DEVICES=${deviceId} and deviceId 0 before the process starts`
    throw new EmbedError('GPU_UNAVAILABLE', { reason, fix })
  }
  const { cuda, cudaMajor, driverVersion, cudaVersion } = await openCudaDriver('tensorrt', options.search)
  const paths = locate(options, cudaMajor)
  const tensorrt = openCudaLibrary('tensorrt', paths.infer, () => loadTensorrt(paths, cuda))
  return { tensorrt, cuda, device: readDevice(cuda, 0), driverVersion, cudaVersion }
}

function locate({ library, search }: OpenTensorrtOptions, cudaMajor: number): TensorrtPaths {
  if (library === undefined) {
    const infer = needCudaLibrary('libnvinfer', { ...search, cudaMajor }).path
    // Two versions must not mix: the parser of the same folder first.
    const onnxParser = findParser(dirname(infer)) ?? findCudaLibrary('libnvonnxparser', search).found?.path
    return { infer, onnxParser }
  }
  const infer = findFile(library, /^libnvinfer\.so(\.[\d.]+)?$/)
  if (infer === undefined) {
    const { fix } = findCudaLibrary('libnvinfer', { ...search, cudaMajor })
    throw new EmbedError('LIBRARY_NOT_FOUND', { library: 'libnvinfer', searched: [library], fix })
  }
  return { infer, onnxParser: findParser(dirname(infer)) }
}

function findParser(folder: string): string | undefined {
  return findFile(folder, /^libnvonnxparser\.so(\.[\d.]+)?$/)
}

/** `place` if it is a file, else the longest matching name in it: the file itself, no link to it. */
function findFile(place: string, name: RegExp): string | undefined {
  if (!existsSync(place)) return undefined
  if (statSync(place).isFile()) return place
  const [longest] = readdirSync(place)
    .filter((each) => name.test(each))
    .sort((a, b) => b.length - a.length || b.localeCompare(a))
  return longest === undefined ? undefined : join(place, longest)
}
