/** NVIDIA's driver of this machine, opened. */
import { EmbedError, toReason } from '../../errors.ts'
import { type Cuda, loadCuda } from '../ffi/cuda.ts'
import { readOut } from '../ffi/library.ts'
import { startCuda } from '../gpu/device.ts'
import { type CudaLibraryName, type CudaSearchOptions, findCudaLibrary } from './cuda-libraries.ts'

export interface CudaDriver {
  readonly cuda: Cuda
  readonly path: string
  /** Of the driver's file: '580.65.06'. */
  readonly driverVersion: string
  /** The newest CUDA that it runs, '13.0'; libraries of a later major version do not work with it. */
  readonly cudaVersion: string
  readonly cudaMajor: number
}

/** @param engine who asks, for messages
 * @throws {EmbedError} LIBRARY_NOT_FOUND with the folders searched and the package, GPU_UNAVAILABLE, CUDA_STATUS,
 * ENGINE_UNAVAILABLE (a library that cannot be opened) */
export async function openCudaDriver(engine: string, search: CudaSearchOptions): Promise<CudaDriver> {
  const { path, version: driverVersion } = needCudaLibrary('libcuda', search)
  const cuda = openCudaLibrary(engine, path, loadCuda)
  await startCuda(cuda)
  const version = readOut<number>((out) => cuda.cuDriverGetVersion(out))
  const cudaMajor = Math.floor(version / 1000)
  return { cuda, path, driverVersion, cudaVersion: `${cudaMajor}.${(version % 1000) / 10}`, cudaMajor }
}

/** @throws {EmbedError} LIBRARY_NOT_FOUND */
export function needCudaLibrary(
  name: CudaLibraryName,
  search: CudaSearchOptions,
): { readonly path: string; readonly version: string } {
  const { found, searched, fix } = findCudaLibrary(name, search)
  if (found === undefined) throw new EmbedError('LIBRARY_NOT_FOUND', { library: name, searched, fix })
  return found
}

/** @throws {EmbedError} ENGINE_UNAVAILABLE, and what `load` throws of its own */
export function openCudaLibrary<Library>(
  engine: string,
  path: string,
  load: (path: string) => Library,
): Library {
  try {
    return load(path)
  } catch (cause) {
    if (cause instanceof EmbedError) throw cause
    const reason = `${path} cannot be opened: ${toReason(cause)}`
    const fix = "'akidb-embedding doctor' tells what was found and what is missing"
    throw new EmbedError('ENGINE_UNAVAILABLE', { engine, reason, fix }, { cause })
  }
}
