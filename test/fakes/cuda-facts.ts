import * as c from '../../src/hardware/ffi/cuda.ts'

/** CUresult -> what cuGetErrorName and cuGetErrorString say. */
export const statusNames: Readonly<Record<number, readonly [name: string, words: string]>> = {
  1: ['CUDA_ERROR_INVALID_VALUE', 'invalid argument'],
  2: ['CUDA_ERROR_OUT_OF_MEMORY', 'out of memory'],
  3: ['CUDA_ERROR_NOT_INITIALIZED', 'initialization error'],
  100: ['CUDA_ERROR_NO_DEVICE', 'no CUDA-capable device is detected'],
  101: ['CUDA_ERROR_INVALID_DEVICE', 'invalid device ordinal'],
  201: ['CUDA_ERROR_INVALID_CONTEXT', 'invalid device context'],
  400: ['CUDA_ERROR_INVALID_HANDLE', 'invalid resource handle'],
  500: ['CUDA_ERROR_NOT_FOUND', 'named symbol not found'],
  700: ['CUDA_ERROR_ILLEGAL_ADDRESS', 'an illegal memory access was encountered'],
  900: ['CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED', 'operation not permitted when stream is capturing'],
  901: ['CUDA_ERROR_STREAM_CAPTURE_INVALIDATED', 'operation failed due to a previous error during capture'],
}

/** Device attributes of an H100, by their id. */
export const h100: Readonly<Record<number, number>> = {
  [c.CU_DEVICE_ATTRIBUTE_CLOCK_RATE]: 1_980_000,
  [c.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT]: 132,
  [c.CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE]: 2_619_000,
  [c.CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH]: 5120,
  [c.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE]: 50 << 20,
  [c.CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT]: 3,
  [c.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR]: 9,
  [c.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR]: 0,
  [c.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN]: 227 << 10,
}
