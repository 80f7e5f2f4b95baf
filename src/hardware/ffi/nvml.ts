/** NVIDIA's management library, nvml.h of 13.0: what the driver knows about GPUs, without a CUDA context. */
import { EmbedError } from '../../errors.ts'
import {
  declareEnum,
  declareHandle,
  declareStruct,
  loadLibrary,
  type NativeFunction,
  type Out,
  type Pointer,
  oncePerPath,
} from './library.ts'

export type NvmlDevice = Pointer<'nvmlDevice_t'>

export interface NvmlMemory {
  readonly total: number
  readonly free: number
  readonly used: number
}

/** Percent of the last sample period (between 1/6 s and 1 s) in which a kernel ran, and memory was read or written. */
export interface NvmlUtilization {
  readonly gpu: number
  readonly memory: number
}

/** nvmlTemperatureSensors_t */
export const NVML_TEMPERATURE_GPU = 0

/** nvmlClocksThrottleReason*, a bit each. */
export const throttleReasonBits = {
  idle: 0x1n,
  'application clocks': 0x2n,
  'power limit': 0x4n,
  'hardware slowdown': 0x8n,
  'sync boost': 0x10n,
  'thermal limit': 0x20n,
  'hardware thermal limit': 0x40n,
  'power brake': 0x80n,
  'display clocks': 0x100n,
} as const

/** nvmlClockType_t */
export const NVML_CLOCK_SM = 1
export const NVML_CLOCK_MEM = 2

declareEnum('nvmlReturn_t', 'nvmlClockType_t', 'nvmlTemperatureSensors_t')
declareHandle('nvmlDevice_t')
declareStruct('nvmlMemory_t', {
  total: 'unsigned long long',
  free: 'unsigned long long',
  used: 'unsigned long long',
})

declareStruct('nvmlUtilization_t', { gpu: 'unsigned int', memory: 'unsigned int' })

export type Nvml = ReturnType<typeof declareNvml>

/** The function table of `libnvidia-ml` at `path`. A call that fails throws NVML_STATUS.
 * @throws {Error} the loader's words when the library cannot be opened */
export const loadNvml: (path: string) => Nvml = oncePerPath(declareNvml)

function declareNvml(path: string) {
  const library = loadLibrary(path)
  const nvmlErrorString = library.declare<[status: number], string>(
    'const char *nvmlErrorString(nvmlReturn_t result)',
  )
  const check = (status: number, api: string): void => {
    if (status !== 0) throw new EmbedError('NVML_STATUS', { api, status, reason: nvmlErrorString(status) })
  }
  const checked = <Args extends readonly unknown[]>(parameters: string): NativeFunction<Args, void> =>
    library.declare<Args, number, void>(`nvmlReturn_t ${parameters}`, check)

  return {
    nvmlInit_v2: checked<[]>('nvmlInit_v2()'),
    nvmlShutdown: checked<[]>('nvmlShutdown()'),
    /** `version` is written into, NUL-terminated. */
    nvmlSystemGetDriverVersion: checked<[version: Uint8Array, length: number]>(
      'nvmlSystemGetDriverVersion(_Out_ char *version, unsigned int length)',
    ),
    nvmlDeviceGetCount_v2: checked<[count: Out<number>]>(
      'nvmlDeviceGetCount_v2(_Out_ unsigned int *deviceCount)',
    ),
    nvmlDeviceGetHandleByIndex_v2: checked<[index: number, device: Out<NvmlDevice>]>(
      'nvmlDeviceGetHandleByIndex_v2(unsigned int index, _Out_ nvmlDevice_t *device)',
    ),
    /** `uuid` is written into, NUL-terminated; 96 bytes are enough. */
    nvmlDeviceGetUUID: checked<[device: NvmlDevice, uuid: Uint8Array, length: number]>(
      'nvmlDeviceGetUUID(nvmlDevice_t device, _Out_ char *uuid, unsigned int length)',
    ),
    nvmlDeviceGetUtilizationRates: checked<[device: NvmlDevice, utilization: Partial<NvmlUtilization>]>(
      'nvmlDeviceGetUtilizationRates(nvmlDevice_t device, _Out_ nvmlUtilization_t *utilization)',
    ),
    nvmlDeviceGetPowerUsage: checked<[device: NvmlDevice, milliwatts: Out<number>]>(
      'nvmlDeviceGetPowerUsage(nvmlDevice_t device, _Out_ unsigned int *power)',
    ),
    nvmlDeviceGetEnforcedPowerLimit: checked<[device: NvmlDevice, milliwatts: Out<number>]>(
      'nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, _Out_ unsigned int *limit)',
    ),
    nvmlDeviceGetTemperature: checked<[device: NvmlDevice, sensor: number, celsius: Out<number>]>(
      'nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensorType, _Out_ unsigned int *temp)',
    ),
    /** CUDA 12.2 calls it ...ClocksEventReasons; this name stays. */
    nvmlDeviceGetCurrentClocksThrottleReasons: checked<[device: NvmlDevice, bits: Out<number | bigint>]>(
      'nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, _Out_ unsigned long long *clocksThrottleReasons)',
    ),
    nvmlDeviceGetHandleByUUID: checked<[uuid: string, device: Out<NvmlDevice>]>(
      'nvmlDeviceGetHandleByUUID(const char *uuid, _Out_ nvmlDevice_t *device)',
    ),
    nvmlDeviceGetMemoryInfo: checked<[device: NvmlDevice, memory: Partial<NvmlMemory>]>(
      'nvmlDeviceGetMemoryInfo(nvmlDevice_t device, _Out_ nvmlMemory_t *memory)',
    ),
    nvmlDeviceGetClockInfo: checked<[device: NvmlDevice, type: number, mhz: Out<number>]>(
      'nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, _Out_ unsigned int *clock)',
    ),
    nvmlDeviceGetMaxClockInfo: checked<[device: NvmlDevice, type: number, mhz: Out<number>]>(
      'nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, _Out_ unsigned int *clock)',
    ),
  }
}
