import { readOut } from '../ffi/library.ts'
import {
  NVML_CLOCK_MEM,
  NVML_CLOCK_SM,
  NVML_TEMPERATURE_GPU,
  type Nvml,
  type NvmlDevice,
  type NvmlMemory,
  type NvmlUtilization,
  throttleReasonBits,
} from '../ffi/nvml.ts'
import { attempt, type GpuSample, throttleReasons } from './gpu-sample.ts'

/** Of every GPU that NVML shows. @param nvml after nvmlInit_v2 */
export function readNvmlSamples(nvml: Nvml): GpuSample[] {
  const count = readOut<number>((out) => nvml.nvmlDeviceGetCount_v2(out))
  return Array.from({ length: count }, (_, index) =>
    attempt(() => readOut<NvmlDevice>((out) => nvml.nvmlDeviceGetHandleByIndex_v2(index, out))),
  ).flatMap((device) => (device === undefined ? [] : readNvmlSample(nvml, device)))
}

function readNvmlSample(nvml: Nvml, device: NvmlDevice): GpuSample {
  // Structs are filled with zeros by calls that fail.
  const utilisation = attempt(() => {
    const rates: Partial<NvmlUtilization> = {}
    nvml.nvmlDeviceGetUtilizationRates(device, rates)
    return rates
  })
  const memory = attempt(() => {
    const info: Partial<NvmlMemory> = {}
    nvml.nvmlDeviceGetMemoryInfo(device, info)
    return info
  })
  return {
    uuid: readUuid(nvml, device),
    utilisation: divide(utilisation?.gpu, 100),
    memoryUtilisation: divide(utilisation?.memory, 100),
    usedBytes: memory?.used,
    totalBytes: memory?.total,
    clockMhz: readNumber((out) => nvml.nvmlDeviceGetClockInfo(device, NVML_CLOCK_SM, out)),
    memoryClockMhz: readNumber((out) => nvml.nvmlDeviceGetClockInfo(device, NVML_CLOCK_MEM, out)),
    powerWatts: divide(
      readNumber((out) => nvml.nvmlDeviceGetPowerUsage(device, out)),
      1000,
    ),
    powerLimitWatts: divide(
      readNumber((out) => nvml.nvmlDeviceGetEnforcedPowerLimit(device, out)),
      1000,
    ),
    temperatureCelsius: readNumber((out) => nvml.nvmlDeviceGetTemperature(device, NVML_TEMPERATURE_GPU, out)),
    throttleReasons: attempt(() => {
      const bits = BigInt(
        readOut<number | bigint>((out) => nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device, out)),
      )
      return throttleReasons.filter((reason) => (bits & throttleReasonBits[reason]) !== 0n)
    }),
  }
}

function readUuid(nvml: Nvml, device: NvmlDevice): string {
  const text = Buffer.alloc(96)
  nvml.nvmlDeviceGetUUID(device, text, text.length)
  return text.toString('latin1', 0, text.indexOf(0))
}

function readNumber(read: (out: [number | null]) => void): number | undefined {
  return attempt(() => readOut<number>(read))
}

function divide(value: number | undefined, by: number): number | undefined {
  return value === undefined ? undefined : value / by
}
