import {
  type CudaLibrary,
  type CudaSearchOptions,
  findCudaLibrary,
} from '../hardware/machine/cuda-libraries.ts'
import { readGpus } from '../hardware/machine/gpu.ts'

/** The one that fits the driver: a newer one is refused by it. */
export async function findCupti(search: CudaSearchOptions): Promise<CudaLibrary> {
  const driver = findCudaLibrary('libcuda', search).found
  if (driver === undefined) return findCudaLibrary('libcupti', search)
  const { cudaVersion } = await readGpus({ cuda: driver.path })
  return findCudaLibrary('libcupti', { ...search, cudaMajor: Number.parseInt(cudaVersion, 10) })
}
