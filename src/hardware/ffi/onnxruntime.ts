/** ONNX Runtime's C API, onnxruntime_c_api.h of 1.30: entries of the OrtApi table by index, which is append-only. */
import { EmbedError } from '../../errors.ts'
import {
  declareAt,
  declareEnum,
  declareOpaque,
  declareStruct,
  loadLibrary,
  type NativeFunction,
  type Out,
  type Pointer,
  readPointer,
  oncePerPath,
} from './library.ts'

export type OrtEnv = Pointer<'OrtEnv'>
export type OrtSession = Pointer<'OrtSession'>
export type OrtSessionOptions = Pointer<'OrtSessionOptions'>
export type OrtRunOptions = Pointer<'OrtRunOptions'>
export type OrtValue = Pointer<'OrtValue'>
export type OrtMemoryInfo = Pointer<'OrtMemoryInfo'>
export type OrtAllocator = Pointer<'OrtAllocator'>
export type OrtTypeInfo = Pointer<'OrtTypeInfo'>
export type OrtTensorInfo = Pointer<'OrtTensorTypeAndShapeInfo'>

/** OrtLoggingLevel */
export const ORT_LOGGING_LEVEL_FATAL = 4
/** GraphOptimizationLevel */
export const ORT_ENABLE_ALL = 99
/** OrtAllocatorType */
export const OrtDeviceAllocator = 0
/** OrtMemType */
export const OrtMemTypeDefault = 0
/** ONNXTensorElementDataType */
export const ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1
export const ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 = 6
export const ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7

/** The oldest table with every entry used here. */
const ORT_API_VERSION = 15
/** ORTCHAR_T: file names are UTF-16 on Windows. */
const ORTCHAR_T = process.platform === 'win32' ? 'char16_t' : 'char'

declareEnum('OrtLoggingLevel', 'GraphOptimizationLevel', 'OrtAllocatorType', 'OrtMemType', 'OrtErrorCode')
declareEnum('ONNXTensorElementDataType')
declareOpaque('OrtApi', 'OrtStatus', 'OrtEnv', 'OrtSession', 'OrtSessionOptions', 'OrtRunOptions', 'OrtValue')
declareOpaque('OrtMemoryInfo', 'OrtAllocator', 'OrtTypeInfo', 'OrtTensorTypeAndShapeInfo')
declareStruct('OrtApiBase', { GetApi: 'void *', GetVersionString: 'void *' })

export type Onnxruntime = ReturnType<typeof declareOnnxruntime>

/** The function table of `libonnxruntime` at `path`. A call that gives a status throws ONNXRUNTIME_STATUS.
 * @throws {Error} the loader's words when the library cannot be opened or is too old */
export const loadOnnxruntime: (path: string) => Onnxruntime = oncePerPath(declareOnnxruntime)

function declareOnnxruntime(path: string) {
  const OrtGetApiBase = loadLibrary(path).declare<[], Pointer<'OrtApiBase'>>('OrtApiBase *OrtGetApiBase()')
  const base = OrtGetApiBase()
  const GetApi = declareAt<[version: number], Pointer<'OrtApi'> | null, Pointer<'OrtApi'> | null>(
    readPointer(base, 0),
    'OrtApi *GetApi(uint32_t version)',
  )
  const GetVersionString = declareAt<[], string, string>(
    readPointer(base, 1),
    'const char *GetVersionString()',
  )
  const table = GetApi(ORT_API_VERSION)
  if (table === null) {
    throw new Error(
      `ONNX Runtime ${GetVersionString()} has no API ${ORT_API_VERSION}; 1.15 or later is needed`,
    )
  }

  const plain = <Args extends readonly unknown[], Result>(index: number, prototype: string) =>
    declareAt<Args, Result, Result>(readPointer(table, index), prototype)
  const GetErrorCode = plain<[status: bigint], number>(
    1,
    'OrtErrorCode GetErrorCode(const OrtStatus *status)',
  )
  const GetErrorMessage = plain<[status: bigint], string>(
    2,
    'const char *GetErrorMessage(const OrtStatus *status)',
  )
  const ReleaseStatus = plain<[status: bigint], void>(93, 'void ReleaseStatus(OrtStatus *input)')
  const check = (status: bigint | null, api: string): void => {
    if (status === null) return
    const details = { api, status: GetErrorCode(status), reason: GetErrorMessage(status) }
    ReleaseStatus(status)
    throw new EmbedError('ONNXRUNTIME_STATUS', details)
  }
  const checked = <Args extends readonly unknown[]>(
    index: number,
    parameters: string,
  ): NativeFunction<Args, void> =>
    declareAt<Args, bigint | null, void>(readPointer(table, index), `OrtStatus *${parameters}`, check)
  const release = <Handle>(index: number, type: string) =>
    plain<[input: Handle], void>(index, `void Release${type}(Ort${type} *input)`)

  return {
    GetVersionString,
    CreateEnv: checked<[level: number, logId: string, out: Out<OrtEnv>]>(
      3,
      'CreateEnv(OrtLoggingLevel log_severity_level, const char *logid, _Out_ OrtEnv **out)',
    ),
    CreateSession: checked<
      [env: OrtEnv, modelPath: string, options: OrtSessionOptions, out: Out<OrtSession>]
    >(
      7,
      `CreateSession(const OrtEnv *env, const ${ORTCHAR_T} *model_path, const OrtSessionOptions *options, _Out_ OrtSession **out)`,
    ),
    Run: checked<
      [
        session: OrtSession,
        runOptions: OrtRunOptions,
        inputNames: readonly string[],
        inputs: readonly OrtValue[],
        inputCount: number,
        outputNames: readonly string[],
        outputCount: number,
        outputs: Out<OrtValue>,
      ]
    >(
      9,
      'Run(OrtSession *session, const OrtRunOptions *run_options, const char **input_names, const OrtValue **inputs, size_t input_len, const char **output_names, size_t output_names_len, _Inout_ OrtValue **outputs)',
    ),
    CreateSessionOptions: checked<[options: Out<OrtSessionOptions>]>(
      10,
      'CreateSessionOptions(_Out_ OrtSessionOptions **options)',
    ),
    /** The file's name gets a time of day and '.json' after the prefix. */
    EnableProfiling: checked<[options: OrtSessionOptions, filePrefix: string]>(
      14,
      `EnableProfiling(OrtSessionOptions *options, const ${ORTCHAR_T} *profile_file_prefix)`,
    ),
    DisableMemPattern: checked<[options: OrtSessionOptions]>(
      17,
      'DisableMemPattern(OrtSessionOptions *options)',
    ),
    DisableCpuMemArena: checked<[options: OrtSessionOptions]>(
      19,
      'DisableCpuMemArena(OrtSessionOptions *options)',
    ),
    SetSessionGraphOptimizationLevel: checked<[options: OrtSessionOptions, level: number]>(
      23,
      'SetSessionGraphOptimizationLevel(OrtSessionOptions *options, GraphOptimizationLevel graph_optimization_level)',
    ),
    SetIntraOpNumThreads: checked<[options: OrtSessionOptions, threads: number]>(
      24,
      'SetIntraOpNumThreads(OrtSessionOptions *options, int intra_op_num_threads)',
    ),
    SetInterOpNumThreads: checked<[options: OrtSessionOptions, threads: number]>(
      25,
      'SetInterOpNumThreads(OrtSessionOptions *options, int inter_op_num_threads)',
    ),
    SessionGetInputCount: checked<[session: OrtSession, out: Out<number>]>(
      30,
      'SessionGetInputCount(const OrtSession *session, _Out_ size_t *out)',
    ),
    SessionGetOutputCount: checked<[session: OrtSession, out: Out<number>]>(
      31,
      'SessionGetOutputCount(const OrtSession *session, _Out_ size_t *out)',
    ),
    SessionGetInputTypeInfo: checked<[session: OrtSession, index: number, info: Out<OrtTypeInfo>]>(
      33,
      'SessionGetInputTypeInfo(const OrtSession *session, size_t index, _Out_ OrtTypeInfo **type_info)',
    ),
    SessionGetOutputTypeInfo: checked<[session: OrtSession, index: number, info: Out<OrtTypeInfo>]>(
      34,
      'SessionGetOutputTypeInfo(const OrtSession *session, size_t index, _Out_ OrtTypeInfo **type_info)',
    ),
    SessionGetInputName: checked<
      [session: OrtSession, index: number, allocator: OrtAllocator, value: Out<Pointer>]
    >(
      36,
      'SessionGetInputName(const OrtSession *session, size_t index, OrtAllocator *allocator, _Out_ void **value)',
    ),
    SessionGetOutputName: checked<
      [session: OrtSession, index: number, allocator: OrtAllocator, value: Out<Pointer>]
    >(
      37,
      'SessionGetOutputName(const OrtSession *session, size_t index, OrtAllocator *allocator, _Out_ void **value)',
    ),
    CreateRunOptions: checked<[out: Out<OrtRunOptions>]>(39, 'CreateRunOptions(_Out_ OrtRunOptions **out)'),
    RunOptionsSetTerminate: checked<[options: OrtRunOptions]>(
      46,
      'RunOptionsSetTerminate(OrtRunOptions *options)',
    ),
    RunOptionsUnsetTerminate: checked<[options: OrtRunOptions]>(
      47,
      'RunOptionsUnsetTerminate(OrtRunOptions *options)',
    ),
    CreateTensorWithDataAsOrtValue: checked<
      [
        info: OrtMemoryInfo,
        data: ArrayBufferView,
        bytes: number,
        shape: BigInt64Array,
        rank: number,
        type: number,
        out: Out<OrtValue>,
      ]
    >(
      49,
      'CreateTensorWithDataAsOrtValue(const OrtMemoryInfo *info, void *p_data, size_t p_data_len, const int64_t *shape, size_t shape_len, ONNXTensorElementDataType type, _Out_ OrtValue **out)',
    ),
    GetTensorMutableData: checked<[value: OrtValue, out: Out<Pointer>]>(
      51,
      'GetTensorMutableData(OrtValue *value, _Out_ void **out)',
    ),
    CastTypeInfoToTensorInfo: checked<[info: OrtTypeInfo, out: Out<OrtTensorInfo>]>(
      55,
      'CastTypeInfoToTensorInfo(const OrtTypeInfo *type_info, _Out_ OrtTensorTypeAndShapeInfo **out)',
    ),
    GetTensorElementType: checked<[info: OrtTensorInfo, out: Out<number>]>(
      60,
      'GetTensorElementType(const OrtTensorTypeAndShapeInfo *info, _Out_ ONNXTensorElementDataType *out)',
    ),
    GetDimensionsCount: checked<[info: OrtTensorInfo, out: Out<number>]>(
      61,
      'GetDimensionsCount(const OrtTensorTypeAndShapeInfo *info, _Out_ size_t *out)',
    ),
    /** `values` i64 [count] is written into; -1 = open. */
    GetDimensions: checked<[info: OrtTensorInfo, values: BigInt64Array, count: number]>(
      62,
      'GetDimensions(const OrtTensorTypeAndShapeInfo *info, _Out_ int64_t *dim_values, size_t dim_values_length)',
    ),
    CreateCpuMemoryInfo: checked<[type: number, memType: number, out: Out<OrtMemoryInfo>]>(
      69,
      'CreateCpuMemoryInfo(OrtAllocatorType type, OrtMemType mem_type, _Out_ OrtMemoryInfo **out)',
    ),
    AllocatorFree: checked<[allocator: OrtAllocator, pointer: Pointer]>(
      76,
      'AllocatorFree(OrtAllocator *ort_allocator, void *p)',
    ),
    GetAllocatorWithDefaultOptions: checked<[out: Out<OrtAllocator>]>(
      78,
      'GetAllocatorWithDefaultOptions(_Out_ OrtAllocator **out)',
    ),
    ReleaseEnv: release<OrtEnv>(92, 'Env'),
    ReleaseMemoryInfo: release<OrtMemoryInfo>(94, 'MemoryInfo'),
    ReleaseSession: release<OrtSession>(95, 'Session'),
    ReleaseValue: release<OrtValue>(96, 'Value'),
    ReleaseRunOptions: release<OrtRunOptions>(97, 'RunOptions'),
    ReleaseTypeInfo: release<OrtTypeInfo>(98, 'TypeInfo'),
    ReleaseSessionOptions: release<OrtSessionOptions>(100, 'SessionOptions'),
    /** Writes the file; `path` is its name, freed by AllocatorFree. */
    SessionEndProfiling: checked<[session: OrtSession, allocator: OrtAllocator, path: Out<Pointer>]>(
      110,
      'SessionEndProfiling(OrtSession *session, OrtAllocator *allocator, _Out_ void **out)',
    ),
    AddSessionConfigEntry: checked<[options: OrtSessionOptions, key: string, value: string]>(
      130,
      'AddSessionConfigEntry(OrtSessionOptions *options, const char *config_key, const char *config_value)',
    ),
  }
}
