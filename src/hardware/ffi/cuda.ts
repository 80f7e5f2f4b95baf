/** CUDA's driver API, cuda.h of 13.0; every function used here has been in it since 11.4.
 *
 * A CUDA context is current on one thread. Calls made here run on the caller's thread; the `.async` form runs on
 * a thread of koffi's, where no context is current, so only functions that need none have one. */
import { EmbedError } from '../../errors.ts'
import {
  declareAlias,
  declareEnum,
  declareHandle,
  loadLibrary,
  type NativeFunction,
  type Out,
  type Pointer,
  oncePerPath,
} from './library.ts'

export type CudaDevice = number & { readonly __device: 'CUdevice' }
export type CudaContext = Pointer<'CUcontext'>
export type CudaStream = Pointer<'CUstream'>
export type CudaEvent = Pointer<'CUevent'>
export type CudaModule = Pointer<'CUmodule'>
export type CudaFunction = Pointer<'CUfunction'>
export type CudaGraph = Pointer<'CUgraph'>
export type CudaGraphExec = Pointer<'CUgraphExec'>
/** An address in the GPU's memory. */
export type DevicePointer = Pointer<'CUdeviceptr'>
/** Host memory that a copy reads or writes: an address, or memory of JavaScript's, which is pageable. */
export type HostMemory = Pointer | ArrayBufferView

/** CUresult */
export const CUDA_ERROR_OUT_OF_MEMORY = 2
export const CUDA_ERROR_NO_DEVICE = 100
export const CUDA_ERROR_NOT_READY = 600
/** CUdevice_attribute */
export const CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13
export const CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16
export const CU_DEVICE_ATTRIBUTE_INTEGRATED = 18
export const CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 36
export const CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 37
export const CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38
export const CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT = 40
export const CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
export const CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
export const CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97
/** CUlimit */
export const CU_LIMIT_STACK_SIZE = 0
/** Flags of cuMemHostAlloc */
export const CU_MEMHOSTALLOC_PORTABLE = 1
export const CU_MEMHOSTALLOC_DEVICEMAP = 2
/** CUstream_flags */
export const CU_STREAM_NON_BLOCKING = 1
/** CUevent_flags */
export const CU_EVENT_DEFAULT = 0
export const CU_EVENT_BLOCKING_SYNC = 1
export const CU_EVENT_DISABLE_TIMING = 2
/** CUstreamCaptureMode */
export const CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
/** CUfunction_attribute */
export const CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1
export const CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3
export const CU_FUNC_ATTRIBUTE_NUM_REGS = 4
export const CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8

declareEnum(
  'CUresult',
  'CUdevice',
  'CUdevice_attribute',
  'CUlimit',
  'CUstreamCaptureMode',
  'CUfunction_attribute',
)
declareHandle('CUcontext', 'CUstream', 'CUevent', 'CUmodule', 'CUfunction', 'CUgraph', 'CUgraphExec')
// 64 bits in C too; as a pointer it is a bigint here whatever its value.
declareAlias('CUdeviceptr', 'void *')
declareAlias('CUuuid', 'uint8_t')

/** A function that runs where it is called, since it needs the context that is current there. */
export type Call<Args extends readonly unknown[], Result = void> = (...args: Args) => Result

export type Cuda = ReturnType<typeof declareCuda>

/** The function table of `libcuda` at `path`. A call whose CUresult is not CUDA_SUCCESS throws CUDA_STATUS.
 * @throws {Error} the loader's words when the library cannot be opened or is too old */
export const loadCuda: (path: string) => Cuda = oncePerPath(declareCuda)

function declareCuda(path: string) {
  const library = loadLibrary(path)
  // They leave null where they do not know the status.
  const errorText = (prototype: string) =>
    library.declare<[status: number, text: Out<string>], number>(prototype)
  const cuGetErrorName = errorText('CUresult cuGetErrorName(CUresult error, _Out_ const char **pStr)')
  const cuGetErrorString = errorText('CUresult cuGetErrorString(CUresult error, _Out_ const char **pStr)')
  const fail = (status: number, api: string): never => {
    const [name, words]: [Out<string>, Out<string>] = [[null], [null]]
    cuGetErrorName(status, name)
    cuGetErrorString(status, words)
    const [known, reason] = [name[0] ?? 'unknown', words[0] ?? 'unknown to this driver']
    throw new EmbedError('CUDA_STATUS', { api, status, name: known, reason })
  }
  const check = (status: number, api: string): void => {
    if (status !== 0) fail(status, api)
  }
  /** True when the work is done, false while it is not. */
  const checkReady = (status: number, api: string): boolean => {
    if (status !== 0 && status !== CUDA_ERROR_NOT_READY) fail(status, api)
    return status === 0
  }
  const anywhere = <Args extends readonly unknown[]>(parameters: string): NativeFunction<Args, void> =>
    library.declare<Args, number, void>(`CUresult ${parameters}`, check)
  const checked = <Args extends readonly unknown[]>(parameters: string): Call<Args> => anywhere(parameters)
  const query = <Args extends readonly unknown[]>(parameters: string): Call<Args, boolean> =>
    library.declare<Args, number, boolean>(`CUresult ${parameters}`, checkReady)

  return {
    // The driver and its devices: no context needed.
    cuInit: anywhere<[flags: 0]>('cuInit(unsigned int Flags)'),
    cuDriverGetVersion: anywhere<[version: Out<number>]>('cuDriverGetVersion(_Out_ int *driverVersion)'),
    cuDeviceGetCount: anywhere<[count: Out<number>]>('cuDeviceGetCount(_Out_ int *count)'),
    cuDeviceGet: anywhere<[device: Out<CudaDevice>, ordinal: number]>(
      'cuDeviceGet(_Out_ CUdevice *device, int ordinal)',
    ),
    /** `name` is written into, NUL-terminated. */
    cuDeviceGetName: anywhere<[name: Uint8Array, length: number, device: CudaDevice]>(
      'cuDeviceGetName(_Out_ char *name, int len, CUdevice dev)',
    ),
    /** `uuid` u8 [16] is written into. */
    cuDeviceGetUuid_v2: anywhere<[uuid: Uint8Array, device: CudaDevice]>(
      'cuDeviceGetUuid_v2(_Out_ CUuuid *uuid, CUdevice dev)',
    ),
    cuDeviceTotalMem_v2: anywhere<[bytes: Out<number>, device: CudaDevice]>(
      'cuDeviceTotalMem_v2(_Out_ size_t *bytes, CUdevice dev)',
    ),
    cuDeviceGetAttribute: anywhere<[value: Out<number>, attribute: number, device: CudaDevice]>(
      'cuDeviceGetAttribute(_Out_ int *pi, CUdevice_attribute attrib, CUdevice dev)',
    ),
    // Contexts.
    cuDevicePrimaryCtxRetain: anywhere<[context: Out<CudaContext>, device: CudaDevice]>(
      'cuDevicePrimaryCtxRetain(_Out_ CUcontext *pctx, CUdevice dev)',
    ),
    cuDevicePrimaryCtxRelease_v2: anywhere<[device: CudaDevice]>(
      'cuDevicePrimaryCtxRelease_v2(CUdevice dev)',
    ),
    cuCtxSetCurrent: checked<[context: CudaContext | null]>('cuCtxSetCurrent(CUcontext ctx)'),
    cuCtxSynchronize: checked<[]>('cuCtxSynchronize()'),
    cuCtxSetLimit: checked<[limit: number, value: number]>('cuCtxSetLimit(CUlimit limit, size_t value)'),
    // Memory.
    cuMemGetInfo_v2: checked<[freeBytes: Out<number>, totalBytes: Out<number>]>(
      'cuMemGetInfo_v2(_Out_ size_t *free, _Out_ size_t *total)',
    ),
    cuMemAlloc_v2: checked<[pointer: Out<DevicePointer>, bytes: number]>(
      'cuMemAlloc_v2(_Out_ CUdeviceptr *dptr, size_t bytesize)',
    ),
    cuMemFree_v2: checked<[pointer: DevicePointer]>('cuMemFree_v2(CUdeviceptr dptr)'),
    cuMemHostAlloc: checked<[pointer: Out<Pointer>, bytes: number, flags: number]>(
      'cuMemHostAlloc(_Out_ void **pp, size_t bytesize, unsigned int Flags)',
    ),
    cuMemFreeHost: checked<[pointer: Pointer]>('cuMemFreeHost(void *p)'),
    cuMemHostGetDevicePointer_v2: checked<[device: Out<DevicePointer>, host: Pointer, flags: 0]>(
      'cuMemHostGetDevicePointer_v2(_Out_ CUdeviceptr *pdptr, void *p, unsigned int Flags)',
    ),
    cuMemcpyHtoDAsync_v2: checked<
      [target: DevicePointer, source: HostMemory, bytes: number, stream: CudaStream]
    >('cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream)'),
    cuMemcpyDtoHAsync_v2: checked<
      [target: HostMemory, source: DevicePointer, bytes: number, stream: CudaStream]
    >('cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)'),
    cuMemcpyDtoDAsync_v2: checked<
      [target: DevicePointer, source: DevicePointer, bytes: number, stream: CudaStream]
    >(
      'cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream)',
    ),
    cuMemsetD8Async: checked<[target: DevicePointer, value: number, bytes: number, stream: CudaStream]>(
      'cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream)',
    ),
    // Streams and events.
    cuStreamCreate: checked<[stream: Out<CudaStream>, flags: number]>(
      'cuStreamCreate(_Out_ CUstream *phStream, unsigned int Flags)',
    ),
    cuStreamDestroy_v2: checked<[stream: CudaStream]>('cuStreamDestroy_v2(CUstream hStream)'),
    cuStreamQuery: query<[stream: CudaStream]>('cuStreamQuery(CUstream hStream)'),
    /** Blocks its thread. That a driver takes the asynchronous form, without a current context, is not documented:
     * gpu/completion-poller.ts waits without it. */
    cuStreamSynchronize: anywhere<[stream: CudaStream]>('cuStreamSynchronize(CUstream hStream)'),
    cuStreamWaitEvent: checked<[stream: CudaStream, event: CudaEvent, flags: 0]>(
      'cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags)',
    ),
    cuEventCreate: checked<[event: Out<CudaEvent>, flags: number]>(
      'cuEventCreate(_Out_ CUevent *phEvent, unsigned int Flags)',
    ),
    cuEventRecord: checked<[event: CudaEvent, stream: CudaStream]>(
      'cuEventRecord(CUevent hEvent, CUstream hStream)',
    ),
    cuEventQuery: query<[event: CudaEvent]>('cuEventQuery(CUevent hEvent)'),
    /** As with cuStreamSynchronize; with CU_EVENT_BLOCKING_SYNC its thread sleeps. Driver 580 takes the asynchronous form. */
    cuEventSynchronize: anywhere<[event: CudaEvent]>('cuEventSynchronize(CUevent hEvent)'),
    cuEventElapsedTime: checked<[milliseconds: Out<number>, start: CudaEvent, end: CudaEvent]>(
      'cuEventElapsedTime(_Out_ float *pMilliseconds, CUevent hStart, CUevent hEnd)',
    ),
    cuEventDestroy_v2: checked<[event: CudaEvent]>('cuEventDestroy_v2(CUevent hEvent)'),
    // Kernels.
    /** `image`: a cubin, or PTX text that ends in NUL. */
    cuModuleLoadData: checked<[module: Out<CudaModule>, image: Uint8Array]>(
      'cuModuleLoadData(_Out_ CUmodule *module, const void *image)',
    ),
    cuModuleUnload: checked<[module: CudaModule]>('cuModuleUnload(CUmodule hmod)'),
    cuModuleGetFunction: checked<[fn: Out<CudaFunction>, module: CudaModule, name: string]>(
      'cuModuleGetFunction(_Out_ CUfunction *hfunc, CUmodule hmod, const char *name)',
    ),
    cuFuncGetAttribute: checked<[value: Out<number>, attribute: number, fn: CudaFunction]>(
      'cuFuncGetAttribute(_Out_ int *pi, CUfunction_attribute attrib, CUfunction hfunc)',
    ),
    cuFuncSetAttribute: checked<[fn: CudaFunction, attribute: number, value: number]>(
      'cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value)',
    ),
    /** `params`: addresses of the arguments' values. */
    cuLaunchKernel: checked<
      [
        fn: CudaFunction,
        gridX: number,
        gridY: number,
        gridZ: number,
        blockX: number,
        blockY: number,
        blockZ: number,
        sharedBytes: number,
        stream: CudaStream,
        params: BigUint64Array,
        extra: null,
      ]
    >(
      'cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra)',
    ),
    /** `config`: a CUlaunchConfig, as hardware/gpu/launch-config.ts lays it out. Since CUDA 11.8. */
    cuLaunchKernelEx: checked<[config: Uint8Array, fn: CudaFunction, params: BigUint64Array, extra: null]>(
      'cuLaunchKernelEx(const void *config, CUfunction f, void **kernelParams, void **extra)',
    ),
    // Graphs.
    cuStreamBeginCapture_v2: checked<[stream: CudaStream, mode: number]>(
      'cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode)',
    ),
    cuStreamEndCapture: checked<[stream: CudaStream, graph: Out<CudaGraph>]>(
      'cuStreamEndCapture(CUstream hStream, _Out_ CUgraph *phGraph)',
    ),
    /** With null in place of the nodes, how many there are. */
    cuGraphGetNodes: checked<[graph: CudaGraph, nodes: null, count: Out<number>]>(
      'cuGraphGetNodes(CUgraph hGraph, void *nodes, _Out_ size_t *numNodes)',
    ),
    cuGraphInstantiateWithFlags: checked<[exec: Out<CudaGraphExec>, graph: CudaGraph, flags: number]>(
      'cuGraphInstantiateWithFlags(_Out_ CUgraphExec *phGraphExec, CUgraph hGraph, unsigned long long flags)',
    ),
    cuGraphLaunch: checked<[exec: CudaGraphExec, stream: CudaStream]>(
      'cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream)',
    ),
    cuGraphExecDestroy: checked<[exec: CudaGraphExec]>('cuGraphExecDestroy(CUgraphExec hGraphExec)'),
    cuGraphDestroy: checked<[graph: CudaGraph]>('cuGraphDestroy(CUgraph hGraph)'),
  }
}
