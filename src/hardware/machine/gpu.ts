/** The NVIDIA GPUs of this machine, read without a context on them. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { EmbedError, toReason } from '../../errors.ts'
import { loadCuda } from '../ffi/cuda.ts'
import { readOut } from '../ffi/library.ts'
import { loadNvml, NVML_CLOCK_MEM, NVML_CLOCK_SM, type Nvml, type NvmlDevice } from '../ffi/nvml.ts'
import { type GpuDevice, readDevice, startCuda } from '../gpu/device.ts'
import { detectJetson } from './cuda-libraries.ts'
import { attempt } from './gpu-sample.ts'

export interface Gpu extends GpuDevice {
  /** Undefined where NVML is absent or does not know: a Jetson, a slice of a GPU. */
  readonly freeBytes: number | undefined
  readonly clockMhz: number | undefined
  readonly memoryClockMhz: number | undefined
}

export interface GpuMachine {
  /** The newest CUDA that the driver runs, e.g. '13.0'. */
  readonly cudaVersion: string
  readonly gpus: readonly Gpu[]
}

export interface GpuLibraryPaths {
  readonly cuda: string
  readonly nvml?: string | undefined
}

/** Takes part of a second on a machine with GPUs.
 * @throws {EmbedError} GPU_UNAVAILABLE with the driver's words, CUDA_STATUS */
export async function readGpus(paths: GpuLibraryPaths): Promise<GpuMachine> {
  const cuda = open(paths.cuda)
  await startCuda(cuda)
  const version = readOut<number>((out) => cuda.cuDriverGetVersion(out))
  const count = readOut<number>((out) => cuda.cuDeviceGetCount(out))
  const devices = Array.from({ length: count }, (_, ordinal) => readDevice(cuda, ordinal))
  return {
    cudaVersion: `${Math.floor(version / 1000)}.${(version % 1000) / 10}`,
    gpus: withNvml(paths.nvml, (nvml) =>
      devices.map((device) => ({ ...device, ...readState(nvml, device) })),
    ),
  }
}

/** Whether this machine shows an NVIDIA GPU, driver or not: on the PCI bus, or as part of a Jetson. */
export function hasNvidiaDevice(): boolean {
  return detectJetson() || hasNvidiaPciDevice('/sys/bus/pci/devices')
}

/** @param folder one entry a device, as in /sys/bus/pci/devices */
export function hasNvidiaPciDevice(folder: string): boolean {
  const read = (device: string, file: string) => {
    try {
      return readFileSync(join(folder, device, file), 'utf8').trim()
    } catch {
      return ''
    }
  }
  try {
    return readdirSync(folder).some(
      (device) => read(device, 'vendor') === '0x10de' && read(device, 'class').startsWith('0x03'),
    )
  } catch {
    return false
  }
}

function open(path: string) {
  try {
    return loadCuda(path)
  } catch (cause) {
    const reason = `the driver's library ${path} cannot be loaded: ${toReason(cause)}`
    const fix = 'install the driver anew'
    throw new EmbedError('GPU_UNAVAILABLE', { reason, fix }, { cause })
  }
}

/** Runs with NVML open, or with undefined where it is not to be had. */
function withNvml<Result>(path: string | undefined, run: (nvml: Nvml | undefined) => Result): Result {
  const nvml = attempt(() => {
    if (path === undefined) return undefined
    const library = loadNvml(path)
    library.nvmlInit_v2()
    return library
  })
  try {
    return run(nvml)
  } finally {
    attempt(() => nvml?.nvmlShutdown())
  }
}

type GpuState = Pick<Gpu, 'freeBytes' | 'clockMhz' | 'memoryClockMhz'>

function readState(nvml: Nvml | undefined, { uuid }: GpuDevice): GpuState {
  const device = attempt(() =>
    nvml === undefined ? undefined : readOut<NvmlDevice>((out) => nvml.nvmlDeviceGetHandleByUUID(uuid, out)),
  )
  if (nvml === undefined || device === undefined) {
    return { freeBytes: undefined, clockMhz: undefined, memoryClockMhz: undefined }
  }
  const clock = (type: number) =>
    attempt(() => readOut<number>((out) => nvml.nvmlDeviceGetClockInfo(device, type, out)))
  return {
    freeBytes: attempt(() => {
      const memory: { free?: number } = {}
      nvml.nvmlDeviceGetMemoryInfo(device, memory)
      return memory.free
    }),
    clockMhz: clock(NVML_CLOCK_SM),
    memoryClockMhz: clock(NVML_CLOCK_MEM),
  }
}
