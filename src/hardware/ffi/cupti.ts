/** CUPTI's activity API, cupti_activity.h of 13.0: what the GPU did and when; every function used here is in 12.0 too. */
import { EmbedError } from '../../errors.ts'
import {
  declareEnum,
  declareHandle,
  loadLibrary,
  type NativeFunction,
  type Out,
  type Pointer,
  oncePerPath,
} from './library.ts'

export type CuptiSubscriber = Pointer<'CUpti_SubscriberHandle'>

/** CUpti_ActivityKind */
export const CUPTI_ACTIVITY_KIND_MEMCPY = 1
export const CUPTI_ACTIVITY_KIND_MEMSET = 2
export const CUPTI_ACTIVITY_KIND_DRIVER = 4
export const CUPTI_ACTIVITY_KIND_RUNTIME = 5
/** The nodes of CUDA graphs are among them, unless CUPTI_ACTIVITY_KIND_GRAPH_TRACE is enabled. */
export const CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL = 10
/** CUpti_ActivityAttribute: buffers come zeroed, so CUPTI need not zero them while a launch waits */
export const CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER = 5
/** CUpti_ActivityFlag: buffers with unfinished records too */
export const CUPTI_ACTIVITY_FLAG_FLUSH_FORCED = 1
/** CUpti_CallbackDomain */
export const CUPTI_CB_DOMAIN_DRIVER_API = 1
export const CUPTI_CB_DOMAIN_RUNTIME_API = 2
/** CUpti_driver_api_trace_cbid */
export const CUPTI_DRIVER_TRACE_CBID_cuEventQuery = 120
export const CUPTI_DRIVER_TRACE_CBID_cuStreamQuery = 125
/** CUptiResult */
const CUPTI_ERROR_MAX_LIMIT_REACHED = 12
const CUPTI_ERROR_NOT_COMPATIBLE = 14
const CUPTI_ERROR_INVALID_KIND = 21
const CUPTI_ERROR_HARDWARE_BUSY = 26
const CUPTI_ERROR_INSUFFICIENT_PRIVILEGES = 35
const CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED = 39
const CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES = 40
const CUPTI_ERROR_MIG_DEVICE_NOT_SUPPORTED = 43

const waysOut: Readonly<Record<number, { readonly fix: string }>> = {
  [CUPTI_ERROR_NOT_COMPATIBLE]: {
    fix: "libcupti is of a newer CUDA than the driver: put an older one first in LD_LIBRARY_PATH ('nvidia-smi' tells the driver's CUDA)",
  },
  [CUPTI_ERROR_MIG_DEVICE_NOT_SUPPORTED]: {
    fix: 'a slice of a GPU cannot be profiled: take a whole one (CUDA_VISIBLE_DEVICES)',
  },
}

declareEnum('CUptiResult', 'CUpti_ActivityKind', 'CUpti_ActivityAttribute', 'CUpti_CallbackDomain')
declareHandle('CUpti_SubscriberHandle')

/** C prototypes of what CUPTI calls. */
export const bufferRequestedPrototype =
  'void CUpti_BuffersCallbackRequestFunc(void *buffer, void *size, void *maxNumRecords)'
export const bufferCompletedPrototype =
  'void CUpti_BuffersCallbackCompleteFunc(void *context, uint32_t streamId, void *buffer, size_t size, size_t validSize)'
export const subscriberPrototype =
  'void CUpti_CallbackFunc(void *userdata, int domain, uint32_t cbid, void *cbdata)'

export type Cupti = ReturnType<typeof declareCupti>

/** The function table of `libcupti` at `path`. A call that fails throws CUPTI_STATUS, PROFILING_NOT_PERMITTED or
 * PROFILER_BUSY.
 * @throws {Error} the loader's words when the library cannot be opened */
export const loadCupti: (path: string) => Cupti = oncePerPath(declareCupti)

function declareCupti(path: string) {
  const library = loadLibrary(path)
  const cuptiGetResultString = library.declare<[status: number, text: Out<string>], number>(
    'CUptiResult cuptiGetResultString(CUptiResult result, _Out_ const char **str)',
  )
  const fail = (status: number, api: string): never => {
    const text: Out<string> = [null]
    cuptiGetResultString(status, text)
    const details = { api, status, name: text[0] ?? 'unknown to this CUPTI' }
    switch (status) {
      case CUPTI_ERROR_INSUFFICIENT_PRIVILEGES:
      case CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES:
        throw new EmbedError('PROFILING_NOT_PERMITTED', details)
      case CUPTI_ERROR_HARDWARE_BUSY:
      case CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED:
        throw new EmbedError('PROFILER_BUSY', { holder: `CUPTI's ${api} answered ${details.name}` })
      default:
        throw new EmbedError('CUPTI_STATUS', { ...details, ...waysOut[status] })
    }
  }
  const check = (status: number, api: string): void => {
    if (status !== 0) fail(status, api)
  }
  /** False at the end of the buffer, or of what is whole in it. */
  const checkMore = (status: number, api: string): boolean => {
    if (status === CUPTI_ERROR_MAX_LIMIT_REACHED || status === CUPTI_ERROR_INVALID_KIND) return false
    check(status, api)
    return true
  }
  const checked = <Args extends readonly unknown[]>(parameters: string): NativeFunction<Args, void> =>
    library.declare<Args, number, void>(`CUptiResult ${parameters}`, check)
  const kind = <Args extends readonly unknown[]>(name: string) =>
    checked<Args>(`${name}(CUpti_ActivityKind kind)`)

  return {
    path,
    cuptiGetVersion: checked<[version: Out<number>]>('cuptiGetVersion(_Out_ uint32_t *version)'),
    /** Nanoseconds since 1970. `timestamp` u64 [1] is written into: a number would lose its last digits. */
    cuptiGetTimestamp: checked<[timestamp: BigUint64Array]>('cuptiGetTimestamp(_Out_ uint64_t *timestamp)'),
    cuptiGetCallbackName: checked<[domain: number, callbackId: number, name: Out<string>]>(
      'cuptiGetCallbackName(CUpti_CallbackDomain domain, uint32_t cbid, _Out_ const char **name)',
    ),
    cuptiSubscribe: checked<[subscriber: Out<CuptiSubscriber>, callback: Pointer, userdata: null]>(
      'cuptiSubscribe(_Out_ CUpti_SubscriberHandle *subscriber, void *callback, void *userdata)',
    ),
    cuptiUnsubscribe: checked<[subscriber: CuptiSubscriber]>(
      'cuptiUnsubscribe(CUpti_SubscriberHandle subscriber)',
    ),
    /** `valueBytes` is [size of value]. */
    cuptiActivitySetAttribute: checked<[attribute: number, valueBytes: [number], value: Uint8Array]>(
      'cuptiActivitySetAttribute(CUpti_ActivityAttribute attr, _Inout_ size_t *valueSize, void *value)',
    ),
    cuptiActivityRegisterCallbacks: checked<[bufferRequested: Pointer, bufferCompleted: Pointer]>(
      'cuptiActivityRegisterCallbacks(void *funcBufferRequested, void *funcBufferCompleted)',
    ),
    cuptiActivityEnable: kind<[kind: number]>('cuptiActivityEnable'),
    cuptiActivityDisable: kind<[kind: number]>('cuptiActivityDisable'),
    /** Since 12.5. */
    cuptiActivityEnableDriverApi: optional(() =>
      checked<[callbackId: number, enable: 0 | 1]>(
        'cuptiActivityEnableDriverApi(uint32_t cbid, uint8_t enable)',
      ),
    ),
    cuptiActivityFlushAll: checked<[flag: number]>('cuptiActivityFlushAll(uint32_t flag)'),
    /** Of no context and stream in particular; counts anew from there. */
    cuptiActivityGetNumDroppedRecords: checked<[context: null, streamId: 0, dropped: Out<number>]>(
      'cuptiActivityGetNumDroppedRecords(void *context, uint32_t streamId, _Out_ size_t *dropped)',
    ),
    /** `record` holds the record before, null for the first; false when there is none. */
    cuptiActivityGetNextRecord: library.declare<
      [buffer: Pointer, validBytes: number, record: [Pointer | null]],
      number,
      boolean
    >(
      'CUptiResult cuptiActivityGetNextRecord(void *buffer, size_t validBufferSizeBytes, _Inout_ void **record)',
      checkMore,
    ),
  }
}

function optional<Value>(declare: () => Value): Value | undefined {
  try {
    return declare()
  } catch {
    return undefined
  }
}
