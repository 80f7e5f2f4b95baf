/** NVIDIA's matrix multiplication, cublasLt.h of 13.4; every function used here has been in it since 11.4, row-wise FP8
 * scales since 12.9. Needs a current CUDA context. */
import { EmbedError } from '../../errors.ts'
import type { Call, CudaStream, DevicePointer } from './cuda.ts'
import { declareEnum, declareHandle, loadLibrary, type Out, type Pointer, oncePerPath } from './library.ts'

export type CublasLtHandle = Pointer<'cublasLtHandle_t'>
export type MatmulDesc = Pointer<'cublasLtMatmulDesc_t'>
export type MatrixLayout = Pointer<'cublasLtMatrixLayout_t'>
export type MatmulPreference = Pointer<'cublasLtMatmulPreference_t'>

/** cublasStatus_t */
export const CUBLAS_STATUS_INVALID_VALUE = 7
export const CUBLAS_STATUS_ARCH_MISMATCH = 8
export const CUBLAS_STATUS_NOT_SUPPORTED = 15
/** cudaDataType_t */
export const CUDA_R_32F = 0
export const CUDA_R_16BF = 14
export const CUDA_R_8F_E4M3 = 28
/** cublasComputeType_t */
export const CUBLAS_COMPUTE_32F = 68
/** cublasOperation_t */
export const CUBLAS_OP_T = 1
/** cublasLtMatmulDescAttributes_t, with the width of the value */
export const CUBLASLT_MATMUL_DESC_TRANSA = 3 // i32
export const CUBLASLT_MATMUL_DESC_EPILOGUE = 7 // u32
export const CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8 // pointer
export const CUBLASLT_MATMUL_DESC_A_SCALE_POINTER = 17 // pointer
export const CUBLASLT_MATMUL_DESC_B_SCALE_POINTER = 18 // pointer
export const CUBLASLT_MATMUL_DESC_FAST_ACCUM = 25 // i8
export const CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26 // i32
export const CUBLASLT_MATMUL_DESC_A_SCALE_MODE = 31 // i32
export const CUBLASLT_MATMUL_DESC_B_SCALE_MODE = 32 // i32
/** cublasLtEpilogue_t */
export const CUBLASLT_EPILOGUE_BIAS = 4
/** cublasLtMatmulMatrixScale_t: one scale a row of A and a column of B */
export const CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F = 3
/** cublasLtMatmulPreferenceAttributes_t */
export const CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1 // u64
/** cublasLtMatmulAlgo_t: u64 [8], opaque, valid for one version of the library */
export const algorithmBytes = 64
/** cublasLtMatmulHeuristicResult_t: algo, size_t workspaceSize, i32 state, f32 wavesCount, i32 reserved [4] */
export const heuristicResultBytes = 96
export const heuristicWorkspaceOffset = 64
export const heuristicStateOffset = 72
/** cublasLtMatmulAlgoCapAttributes_t, with the width of the value */
export const CUBLASLT_ALGO_CAP_SPLITK_SUPPORT = 0 // i32
export const CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK = 1 // u32
export const CUBLASLT_ALGO_CAP_CTA_SWIZZLING_SUPPORT = 2 // u32
export const CUBLASLT_ALGO_CAP_TILE_IDS = 6 // u32 [count]
export const CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX = 7 // i32
export const CUBLASLT_ALGO_CAP_STAGES_IDS = 13 // u32 [count]
/** cublasLtMatmulAlgoConfigAttributes_t, with the width of the value */
export const CUBLASLT_ALGO_CONFIG_ID = 0 // i32
export const CUBLASLT_ALGO_CONFIG_TILE_ID = 1 // u32
export const CUBLASLT_ALGO_CONFIG_SPLITK_NUM = 2 // i32
export const CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME = 3 // u32
export const CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING = 4 // u32
export const CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION = 5 // u32
export const CUBLASLT_ALGO_CONFIG_STAGES_ID = 6 // u32
/** Since 11.8. */
export const CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID = 8 // u16
/** cublasLtClusterShape_t of 13.4: 0 leaves it to the library, the others begin at 2. */
export const CUBLASLT_CLUSTER_SHAPE_END = 52

declareEnum('cublasStatus_t', 'cublasComputeType_t', 'cudaDataType_t')
declareEnum('cublasLtMatmulDescAttributes_t', 'cublasLtMatmulPreferenceAttributes_t')
declareEnum('cublasLtMatmulAlgoCapAttributes_t', 'cublasLtMatmulAlgoConfigAttributes_t')
declareHandle('cublasLtHandle_t', 'cublasLtMatmulDesc_t', 'cublasLtMatrixLayout_t')
declareHandle('cublasLtMatmulPreference_t', 'cudaStream_t')

/** What decides which algorithms there are. */
type AlgorithmTypes = [
  handle: CublasLtHandle,
  computeType: number,
  scaleType: number,
  a: number,
  b: number,
  c: number,
  d: number,
]

export type Cublaslt = ReturnType<typeof declareCublaslt>

/** The function table of `libcublasLt` at `path`. A call whose status is not CUBLAS_STATUS_SUCCESS throws CUBLAS_STATUS.
 * @throws {Error} the loader's words when the library cannot be opened or is too old */
export const loadCublaslt: (path: string) => Cublaslt = oncePerPath(declareCublaslt)

function declareCublaslt(path: string) {
  const library = loadLibrary(path)
  const text = (prototype: string) => library.declare<[status: number], string>(prototype)
  const cublasLtGetStatusName = text('const char *cublasLtGetStatusName(cublasStatus_t status)')
  const cublasLtGetStatusString = text('const char *cublasLtGetStatusString(cublasStatus_t status)')
  const check = (status: number, api: string): void => {
    if (status === 0) return
    const [name, reason] = [cublasLtGetStatusName(status), cublasLtGetStatusString(status)]
    throw new EmbedError('CUBLAS_STATUS', { api, status, name, reason })
  }
  // None has an asynchronous form: they need the context that is current on this thread.
  const checked = <Args extends readonly unknown[]>(parameters: string): Call<Args> =>
    library.declare<Args, number, void>(`cublasStatus_t ${parameters}`, check)

  return {
    /** Major * 10000 + minor * 100 + patch. */
    cublasLtGetVersion: library.declare<[], number>('size_t cublasLtGetVersion()'),
    cublasLtCreate: checked<[handle: Out<CublasLtHandle>]>(
      'cublasLtCreate(_Out_ cublasLtHandle_t *lightHandle)',
    ),
    cublasLtDestroy: checked<[handle: CublasLtHandle]>('cublasLtDestroy(cublasLtHandle_t lightHandle)'),
    cublasLtMatmulDescCreate: checked<[desc: Out<MatmulDesc>, computeType: number, scaleType: number]>(
      'cublasLtMatmulDescCreate(_Out_ cublasLtMatmulDesc_t *matmulDesc, cublasComputeType_t computeType, cudaDataType_t scaleType)',
    ),
    cublasLtMatmulDescDestroy: checked<[desc: MatmulDesc]>(
      'cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmulDesc)',
    ),
    cublasLtMatmulDescSetAttribute: checked<
      [desc: MatmulDesc, attribute: number, value: ArrayBufferView, bytes: number]
    >(
      'cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmulDesc, cublasLtMatmulDescAttributes_t attr, const void *buf, size_t sizeInBytes)',
    ),
    /** Column-major: `leading` elements from column to column. */
    cublasLtMatrixLayoutCreate: checked<
      [layout: Out<MatrixLayout>, type: number, rows: number, columns: number, leading: number]
    >(
      'cublasLtMatrixLayoutCreate(_Out_ cublasLtMatrixLayout_t *matLayout, cudaDataType_t type, uint64_t rows, uint64_t cols, int64_t ld)',
    ),
    cublasLtMatrixLayoutDestroy: checked<[layout: MatrixLayout]>(
      'cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t matLayout)',
    ),
    cublasLtMatmulPreferenceCreate: checked<[preference: Out<MatmulPreference>]>(
      'cublasLtMatmulPreferenceCreate(_Out_ cublasLtMatmulPreference_t *pref)',
    ),
    cublasLtMatmulPreferenceDestroy: checked<[preference: MatmulPreference]>(
      'cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref)',
    ),
    cublasLtMatmulPreferenceSetAttribute: checked<
      [preference: MatmulPreference, attribute: number, value: ArrayBufferView, bytes: number]
    >(
      'cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref, cublasLtMatmulPreferenceAttributes_t attr, const void *buf, size_t sizeInBytes)',
    ),
    /** `results` u8 [requested, heuristicResultBytes] is written into. */
    cublasLtMatmulAlgoGetHeuristic: checked<
      [
        handle: CublasLtHandle,
        desc: MatmulDesc,
        a: MatrixLayout,
        b: MatrixLayout,
        c: MatrixLayout,
        d: MatrixLayout,
        preference: MatmulPreference,
        requested: number,
        results: Uint8Array,
        returned: Out<number>,
      ]
    >(
      'cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t operationDesc, cublasLtMatrixLayout_t Adesc, cublasLtMatrixLayout_t Bdesc, cublasLtMatrixLayout_t Cdesc, cublasLtMatrixLayout_t Ddesc, cublasLtMatmulPreference_t preference, int requestedAlgoCount, _Out_ void *heuristicResultsArray, _Out_ int *returnAlgoCount)',
    ),
    /** `result` u8 [heuristicResultBytes] is written into, all but the algorithm. */
    cublasLtMatmulAlgoCheck: checked<
      [
        handle: CublasLtHandle,
        desc: MatmulDesc,
        a: MatrixLayout,
        b: MatrixLayout,
        c: MatrixLayout,
        d: MatrixLayout,
        algorithm: Uint8Array,
        result: Uint8Array,
      ]
    >(
      'cublasLtMatmulAlgoCheck(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t operationDesc, cublasLtMatrixLayout_t Adesc, cublasLtMatrixLayout_t Bdesc, cublasLtMatrixLayout_t Cdesc, cublasLtMatrixLayout_t Ddesc, const void *algo, _Out_ void *result)',
    ),
    /** `ids` i32 [requested] is written into. */
    cublasLtMatmulAlgoGetIds: checked<
      [...of: AlgorithmTypes, requested: number, ids: Int32Array, returned: Out<number>]
    >(
      'cublasLtMatmulAlgoGetIds(cublasLtHandle_t lightHandle, cublasComputeType_t computeType, cudaDataType_t scaleType, cudaDataType_t Atype, cudaDataType_t Btype, cudaDataType_t Ctype, cudaDataType_t Dtype, int requestedAlgoCount, _Out_ void *algoIdsArray, _Out_ int *returnAlgoCount)',
    ),
    /** `algorithm` u8 [algorithmBytes] is written into. */
    cublasLtMatmulAlgoInit: checked<[...of: AlgorithmTypes, id: number, algorithm: Uint8Array]>(
      'cublasLtMatmulAlgoInit(cublasLtHandle_t lightHandle, cublasComputeType_t computeType, cudaDataType_t scaleType, cudaDataType_t Atype, cudaDataType_t Btype, cudaDataType_t Ctype, cudaDataType_t Dtype, int algoId, _Out_ void *algo)',
    ),
    /** With 0 bytes asked for, `written` says how many there are. */
    cublasLtMatmulAlgoCapGetAttribute: checked<
      [algorithm: Uint8Array, attribute: number, value: Uint8Array, bytes: number, written: Out<number>]
    >(
      'cublasLtMatmulAlgoCapGetAttribute(const void *algo, cublasLtMatmulAlgoCapAttributes_t attr, _Out_ void *buf, size_t sizeInBytes, _Out_ size_t *sizeWritten)',
    ),
    /** `algorithm` is written into. */
    cublasLtMatmulAlgoConfigSetAttribute: checked<
      [algorithm: Uint8Array, attribute: number, value: ArrayBufferView, bytes: number]
    >(
      'cublasLtMatmulAlgoConfigSetAttribute(_Inout_ void *algo, cublasLtMatmulAlgoConfigAttributes_t attr, const void *buf, size_t sizeInBytes)',
    ),
    cublasLtMatmulAlgoConfigGetAttribute: checked<
      [algorithm: Uint8Array, attribute: number, value: Uint8Array, bytes: number, written: Out<number>]
    >(
      'cublasLtMatmulAlgoConfigGetAttribute(const void *algo, cublasLtMatmulAlgoConfigAttributes_t attr, _Out_ void *buf, size_t sizeInBytes, _Out_ size_t *sizeWritten)',
    ),
    /** `alpha` and `beta` f32 [1]. */
    cublasLtMatmul: checked<
      [
        handle: CublasLtHandle,
        desc: MatmulDesc,
        alpha: Float32Array,
        a: DevicePointer,
        aLayout: MatrixLayout,
        b: DevicePointer,
        bLayout: MatrixLayout,
        beta: Float32Array,
        c: DevicePointer,
        cLayout: MatrixLayout,
        d: DevicePointer,
        dLayout: MatrixLayout,
        algorithm: Uint8Array,
        workspace: DevicePointer,
        workspaceBytes: number,
        stream: CudaStream,
      ]
    >(
      'cublasLtMatmul(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t computeDesc, const void *alpha, const void *A, cublasLtMatrixLayout_t Adesc, const void *B, cublasLtMatrixLayout_t Bdesc, const void *beta, const void *C, cublasLtMatrixLayout_t Cdesc, void *D, cublasLtMatrixLayout_t Ddesc, const void *algo, void *workspace, size_t workspaceSizeInBytes, cudaStream_t stream)',
    ),
  }
}
