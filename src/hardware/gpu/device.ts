/** What a GPU is, as the driver tells without a context. */
import * as c from '../ffi/cuda.ts'
import { readOut } from '../ffi/library.ts'
import { EmbedError, toReason } from '../../errors.ts'

export interface GpuDevice {
  readonly ordinal: number
  readonly name: string
  /** As nvidia-smi writes it: GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx */
  readonly uuid: string
  readonly computeCapability: { readonly major: number; readonly minor: number }
  readonly totalBytes: number
  /** Shares its memory with the CPU, as a Jetson does. */
  readonly isIntegrated: boolean
  readonly multiprocessorCount: number
  readonly maxClockMhz: number
  readonly maxMemoryClockMhz: number
  readonly memoryBusBits: number
  readonly l2CacheBytes: number
  /** Copies that can run at once, beside kernels. */
  readonly copyEngineCount: number
  readonly maxSharedBytesPerBlock: number
}

/** Takes part of a second, off the event loop. @throws {EmbedError} GPU_UNAVAILABLE with the driver's words */
export async function startCuda(cuda: c.Cuda): Promise<void> {
  try {
    await cuda.cuInit.async(0)
  } catch (cause) {
    const fix =
      "check that 'nvidia-smi' shows a GPU and that this process may use it (a container: --gpus all)"
    throw new EmbedError('GPU_UNAVAILABLE', { reason: toReason(cause), fix }, { cause })
  }
}

/** @throws {EmbedError} GPU_UNAVAILABLE when there is no such GPU, CUDA_STATUS */
export function findDevice(cuda: c.Cuda, ordinal: number): c.CudaDevice {
  const count = readOut<number>((out) => cuda.cuDeviceGetCount(out))
  if (ordinal >= count) {
    throw new EmbedError('GPU_UNAVAILABLE', {
      reason: `GPU ${ordinal} was asked for, the driver shows ${count}`,
      fix: `take one from 0 to ${count - 1}`,
    })
  }
  return readOut<c.CudaDevice>((out) => cuda.cuDeviceGet(out, ordinal))
}

/** CUDA must have been started. @throws {EmbedError} GPU_UNAVAILABLE, CUDA_STATUS */
export function readDevice(cuda: c.Cuda, ordinal: number): GpuDevice {
  const device = findDevice(cuda, ordinal)
  const attribute = (id: number) => readOut<number>((out) => cuda.cuDeviceGetAttribute(out, id, device))
  const name = Buffer.alloc(256)
  cuda.cuDeviceGetName(name, name.length, device)
  const uuid = Buffer.alloc(16)
  cuda.cuDeviceGetUuid_v2(uuid, device)
  return {
    ordinal,
    name: name.toString('utf8', 0, name.indexOf(0)),
    uuid: formatUuid(uuid),
    computeCapability: {
      major: attribute(c.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
      minor: attribute(c.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
    },
    totalBytes: readOut<number>((out) => cuda.cuDeviceTotalMem_v2(out, device)),
    isIntegrated: attribute(c.CU_DEVICE_ATTRIBUTE_INTEGRATED) !== 0,
    multiprocessorCount: attribute(c.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
    // The driver gives kHz.
    maxClockMhz: attribute(c.CU_DEVICE_ATTRIBUTE_CLOCK_RATE) / 1000,
    maxMemoryClockMhz: attribute(c.CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE) / 1000,
    memoryBusBits: attribute(c.CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH),
    l2CacheBytes: attribute(c.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE),
    copyEngineCount: attribute(c.CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT),
    maxSharedBytesPerBlock: attribute(c.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
  }
}

function formatUuid(bytes: Buffer): string {
  const hex = bytes.toString('hex')
  return `GPU-${[0, 8, 12, 16, 20].map((from, i) => hex.slice(from, [8, 12, 16, 20, 32][i])).join('-')}`
}
