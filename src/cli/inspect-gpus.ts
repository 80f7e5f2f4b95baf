/** doctor's part on NVIDIA GPUs: chip, memory, clocks, driver, and each library or what brings it. */
import { toReason } from '../errors.ts'
import {
  type CudaLibrary,
  type CudaSearchOptions,
  cudaLibraryNames,
  findCudaLibrary,
} from '../hardware/machine/cuda-libraries.ts'
import { type Gpu, hasNvidiaDevice, readGpus } from '../hardware/machine/gpu.ts'
import type { CommandInput } from './command.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import type { Finding } from './finding.ts'

/** One line on a machine without a GPU. */
export async function inspectGpus(input: Pick<CommandInput, 'environment' | 'home'>): Promise<Finding[]> {
  return inspectGpusWith(chooseCudaSearch(input), hasNvidiaDevice())
}

/** @param hasDevice whether the machine shows an NVIDIA GPU, driver or not */
export async function inspectGpusWith(search: CudaSearchOptions, hasDevice: boolean): Promise<Finding[]> {
  const driver = findCudaLibrary('libcuda', search)
  if (driver.found === undefined) {
    return hasDevice
      ? [{ level: 'fail', subject: 'gpu', text: 'an NVIDIA GPU without its driver', fix: driver.fix }]
      : [{ level: 'note', subject: 'gpu', text: 'no NVIDIA GPU and no driver of one' }]
  }
  const { path, version } = driver.found
  const nvml = findCudaLibrary('libnvidia-ml', search)
  try {
    const { cudaVersion, gpus } = await readGpus({ cuda: path, nvml: nvml.found?.path })
    const cudaMajor = Number.parseInt(cudaVersion, 10)
    const libraries = cudaLibraryNames.filter((name) => name !== 'libcuda')
    return [
      ...gpus.map(describeGpu),
      { level: 'ok', subject: 'nvidia driver', text: `${version}, up to CUDA ${cudaVersion}, ${path}` },
      ...libraries.map((name) => describeLibrary(findCudaLibrary(name, { ...search, cudaMajor }))),
    ]
  } catch (error) {
    const level = hasDevice ? 'fail' : 'note'
    return [{ level, subject: 'gpu', text: `${toReason(error)} (driver ${version}, ${path})` }]
  }
}

function describeGpu(gpu: Gpu): Finding {
  const { major, minor } = gpu.computeCapability
  const memory = `${toGiB(gpu.totalBytes)} GiB${gpu.isIntegrated ? ' shared with the CPU' : ''}`
  const free = gpu.freeBytes === undefined ? '' : `, ${toGiB(gpu.freeBytes)} free`
  const clock = formatClock(gpu.clockMhz, gpu.maxClockMhz)
  const memoryClock = `memory ${formatClock(gpu.memoryClockMhz, gpu.maxMemoryClockMhz)}, ${gpu.memoryBusBits} bit`
  return {
    level: 'ok',
    subject: `gpu ${gpu.ordinal}`,
    text: `${gpu.name}, sm_${major}${minor}, ${gpu.multiprocessorCount} multiprocessors at ${clock}; ${memory}${free}; ${memoryClock}`,
  }
}

function describeLibrary({ title, found, searched, fix }: CudaLibrary): Finding {
  const subject = title.toLowerCase()
  if (found !== undefined) return { level: 'ok', subject, text: `${found.version} in ${found.path}` }
  return { level: 'note', subject, text: `not found; searched ${searched.join(', ')}`, fix }
}

function formatClock(nowMhz: number | undefined, maxMhz: number): string {
  return nowMhz === undefined ? `${maxMhz} MHz` : `${nowMhz} of ${maxMhz} MHz`
}

function toGiB(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1)
}
