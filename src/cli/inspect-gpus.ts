/** doctor's part on NVIDIA GPUs: chip, memory, clocks, driver, and each library or what brings it. */
import { toReason } from '../errors.ts'
import {
  type CudaLibrary,
  type CudaSearchOptions,
  cudaLibraryNames,
  findCudaLibrary,
} from '../hardware/machine/cuda-libraries.ts'
import { GpuMonitor } from '../hardware/machine/gpu-monitor.ts'
import { type GpuSample, troublingReasons } from '../hardware/machine/gpu-sample.ts'
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
    using monitor = new GpuMonitor({ nvmlPath: nvml.found?.path })
    const samples = monitor.read()
    const libraries = cudaLibraryNames.filter((name) => name !== 'libcuda')
    return [
      ...gpus.flatMap((gpu) => {
        // A Jetson has one GPU.
        const sample = samples.find(({ uuid }) => uuid === gpu.uuid || uuid === 'jetson')
        return [describeGpu(gpu, sample), ...tellTrouble(gpu, sample)]
      }),
      { level: 'ok', subject: 'nvidia driver', text: `${version}, up to CUDA ${cudaVersion}, ${path}` },
      ...libraries.map((name) => describeLibrary(findCudaLibrary(name, { ...search, cudaMajor }))),
    ]
  } catch (error) {
    const level = hasDevice ? 'fail' : 'note'
    return [{ level, subject: 'gpu', text: `${toReason(error)} (driver ${version}, ${path})` }]
  }
}

function describeGpu(gpu: Gpu, sample: GpuSample | undefined): Finding {
  const { major, minor } = gpu.computeCapability
  const memory = `${toGiB(gpu.totalBytes)} GiB${gpu.isIntegrated ? ' shared with the CPU' : ''}`
  const free = gpu.freeBytes === undefined ? '' : `, ${toGiB(gpu.freeBytes)} free`
  const clock = formatClock(gpu.clockMhz, gpu.maxClockMhz)
  const memoryClock = `memory ${formatClock(gpu.memoryClockMhz, gpu.maxMemoryClockMhz)}, ${gpu.memoryBusBits} bit`
  return {
    level: 'ok',
    subject: `gpu ${gpu.ordinal}`,
    text: `${gpu.name}, sm_${major}${minor}, ${gpu.multiprocessorCount} multiprocessors at ${clock}; ${memory}${free}; ${memoryClock}${describeLoad(sample)}`,
  }
}

/** '; 93 % busy, 612 of 700 W, 64 °C', as far as it is known */
function describeLoad(sample: GpuSample | undefined): string {
  const { utilisation, powerWatts, powerLimitWatts, temperatureCelsius } = sample ?? {}
  const limit = powerLimitWatts === undefined ? '' : ` of ${powerLimitWatts.toFixed(0)}`
  const known = [
    utilisation === undefined ? undefined : `${(100 * utilisation).toFixed(0)} % busy`,
    powerWatts === undefined ? undefined : `${powerWatts.toFixed(0)}${limit} W`,
    temperatureCelsius === undefined ? undefined : `${temperatureCelsius.toFixed(0)} °C`,
  ].filter((text) => text !== undefined)
  return known.length === 0 ? '' : `; ${known.join(', ')}`
}

/** A GPU that is held back by heat or its power supply is slower than it was bought for. */
function tellTrouble({ ordinal }: Gpu, sample: GpuSample | undefined): Finding[] {
  const reasons = troublingReasons.filter((reason) => sample?.throttleReasons?.includes(reason) === true)
  if (reasons.length === 0) return []
  const text = `its clock is held back now: ${reasons.join(', ')}`
  const fix = 'look after cooling and power supply before anything is measured'
  return [{ level: 'note', subject: `gpu ${ordinal} clock`, text, fix }]
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
