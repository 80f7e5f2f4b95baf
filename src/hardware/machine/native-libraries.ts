/** What the native engine needs of this machine beside a GPU: the driver, NVRTC and cuBLASLt of a CUDA that it runs. */
import { openCudaDriver, needCudaLibrary } from './cuda-driver.ts'
import type { CudaSearchOptions } from './cuda-libraries.ts'

/** Paths. */
export interface NativeLibraries {
  readonly cuda: string
  readonly nvrtc: string
  readonly cublaslt: string
}

/** @throws {EmbedError} LIBRARY_NOT_FOUND with the folders searched and the package, GPU_UNAVAILABLE, CUDA_STATUS,
 * ENGINE_UNAVAILABLE (the driver cannot be opened) */
export async function findNativeLibraries(search: CudaSearchOptions): Promise<NativeLibraries> {
  const { path: cuda, cudaMajor } = await openCudaDriver('cuda', search)
  const nvrtc = needCudaLibrary('libnvrtc', { ...search, cudaMajor }).path
  const cublaslt = needCudaLibrary('libcublasLt', { ...search, cudaMajor }).path
  return { cuda, nvrtc, cublaslt }
}
