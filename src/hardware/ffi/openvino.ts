/** OpenVINO's C API, openvino/c/*.h of 2026.4.1; every function used here has been in it since 2022.1. */
import { EmbedError } from '../../errors.ts'
import {
  declareEnum,
  declareOpaque,
  declareOwnedString,
  declareStruct,
  loadLibrary,
  type NativeFunction,
  type Out,
  type Pointer,
  oncePerPath,
} from './library.ts'

export type OvCore = Pointer<'ov_core_t'>
export type OvModel = Pointer<'ov_model_t'>
export type OvCompiledModel = Pointer<'ov_compiled_model_t'>
export type OvInferRequest = Pointer<'ov_infer_request_t'>
export type OvTensor = Pointer<'ov_tensor_t'>
export type OvPort = Pointer<'ov_output_const_port_t'>

/** Passed by value; `dims` are i64 [rank]. */
export interface OvShape {
  readonly rank: number
  readonly dims: BigInt64Array
}

/** Filled by the library, freed by ov_partial_shape_free; `dims` points to pairs of i64, -1 = open end. */
export interface OvPartialShape {
  readonly rank: { readonly min: number; readonly max: number }
  readonly dims: Pointer
}

/** Filled by the library, freed by ov_profiling_info_list_free; `profiling_infos` points to `size` OvProfilingInfo. */
export interface OvProfilingInfoList {
  readonly profiling_infos: Pointer
  readonly size: number
}

export interface OvProfilingInfo {
  /** ov_profiling_info_t.Status */
  readonly status: number
  /** Microseconds. */
  readonly real_time: number
  readonly cpu_time: number
  readonly node_name: string
  readonly exec_type: string
  readonly node_type: string
}
/** ov_profiling_info_t.Status */
export const EXECUTED = 2

export interface OvVersion {
  readonly buildNumber: string
  readonly description: string
}

declareEnum('ov_status_e', 'ov_element_type_e')
declareOpaque('ov_core_t', 'ov_model_t', 'ov_compiled_model_t', 'ov_infer_request_t', 'ov_tensor_t')
declareOpaque('ov_output_const_port_t')
declareStruct('ov_version_t', { buildNumber: 'const char *', description: 'const char *' })
declareStruct('ov_shape_t', { rank: 'int64_t', dims: 'int64_t *' })
declareStruct('ov_dimension_t', { min: 'int64_t', max: 'int64_t' })
declareStruct('ov_partial_shape_t', { rank: 'ov_dimension_t', dims: 'void *' })

declareStruct('ov_profiling_info_t', {
  status: 'int',
  real_time: 'int64_t',
  cpu_time: 'int64_t',
  node_name: 'const char *',
  exec_type: 'const char *',
  node_type: 'const char *',
})
declareStruct('ov_profiling_info_list_t', { profiling_infos: 'void *', size: 'size_t' })

export type Openvino = ReturnType<typeof declareOpenvino>

/** The function table of `libopenvino_c` at `path`. A call whose status is not OK throws OPENVINO_STATUS.
 * @throws {Error} the loader's words when the library cannot be opened */
export const loadOpenvino: (path: string) => Openvino = oncePerPath(declareOpenvino)

function declareOpenvino(path: string, generation: number) {
  const library = loadLibrary(path)
  const ov_free = library.declare<[content: bigint], void>('void ov_free(void *content)')
  const ownedString = `ov_string_${generation}`
  declareOwnedString(ownedString, ov_free)
  const ov_get_error_info = library.declare<[status: number], string>(
    'const char *ov_get_error_info(ov_status_e status)',
  )
  const ov_get_last_err_msg = library.declare<[], string | null>(`${ownedString} ov_get_last_err_msg()`)

  const check = (status: number, api: string): void => {
    if (status === 0) return
    const words = ov_get_last_err_msg()?.trim()
    const reason = words ? `${ov_get_error_info(status)}: ${words}` : ov_get_error_info(status)
    throw new EmbedError('OPENVINO_STATUS', { api, status, reason })
  }
  const checked = <Args extends readonly unknown[]>(parameters: string): NativeFunction<Args, void> =>
    library.declare<Args, number, void>(`ov_status_e ${parameters}`, check)
  const freeing = <Handle>(parameters: string) => library.declare<[Handle], void>(`void ${parameters}`)

  return {
    ov_get_openvino_version: checked<[version: Partial<OvVersion>]>(
      'ov_get_openvino_version(_Out_ ov_version_t *version)',
    ),
    ov_core_create: checked<[core: Out<OvCore>]>('ov_core_create(_Out_ ov_core_t **core)'),
    ov_core_free: freeing<OvCore>('ov_core_free(ov_core_t *core)'),
    ov_core_read_model: checked<
      [core: OvCore, modelPath: string, binPath: string | null, model: Out<OvModel>]
    >(
      'ov_core_read_model(const ov_core_t *core, const char *model_path, const char *bin_path, _Out_ ov_model_t **model)',
    ),
    /** Variadic: ('const char *', key, 'const char *', value). */
    ov_core_set_property: checked<[core: OvCore, device: string, ...property: string[]]>(
      'ov_core_set_property(const ov_core_t *core, const char *device_name, ...)',
    ),
    /** Variadic in C; declared without the properties, for variadic functions have no asynchronous form: size is 0. */
    ov_core_compile_model: checked<
      [core: OvCore, model: OvModel, device: string, size: 0, compiled: Out<OvCompiledModel>]
    >(
      'ov_core_compile_model(const ov_core_t *core, const ov_model_t *model, const char *device_name, size_t property_args_size, _Out_ ov_compiled_model_t **compiled_model)',
    ),
    ov_model_free: freeing<OvModel>('ov_model_free(ov_model_t *model)'),
    ov_compiled_model_inputs_size: checked<[compiled: OvCompiledModel, size: Out<number>]>(
      'ov_compiled_model_inputs_size(const ov_compiled_model_t *compiled_model, _Out_ size_t *size)',
    ),
    ov_compiled_model_outputs_size: checked<[compiled: OvCompiledModel, size: Out<number>]>(
      'ov_compiled_model_outputs_size(const ov_compiled_model_t *compiled_model, _Out_ size_t *size)',
    ),
    ov_compiled_model_input_by_index: checked<[compiled: OvCompiledModel, index: number, port: Out<OvPort>]>(
      'ov_compiled_model_input_by_index(const ov_compiled_model_t *compiled_model, size_t index, _Out_ ov_output_const_port_t **input_port)',
    ),
    ov_compiled_model_output_by_index: checked<[compiled: OvCompiledModel, index: number, port: Out<OvPort>]>(
      'ov_compiled_model_output_by_index(const ov_compiled_model_t *compiled_model, size_t index, _Out_ ov_output_const_port_t **output_port)',
    ),
    ov_compiled_model_create_infer_request: checked<
      [compiled: OvCompiledModel, request: Out<OvInferRequest>]
    >(
      'ov_compiled_model_create_infer_request(const ov_compiled_model_t *compiled_model, _Out_ ov_infer_request_t **infer_request)',
    ),
    ov_compiled_model_free: freeing<OvCompiledModel>(
      'ov_compiled_model_free(ov_compiled_model_t *compiled_model)',
    ),
    ov_port_get_any_name: checked<[port: OvPort, name: Out<string>]>(
      `ov_port_get_any_name(const ov_output_const_port_t *port, _Out_ ${ownedString} *tensor_name)`,
    ),
    ov_port_get_element_type: checked<[port: OvPort, type: Out<number>]>(
      'ov_port_get_element_type(const ov_output_const_port_t *port, _Out_ ov_element_type_e *tensor_type)',
    ),
    ov_port_get_partial_shape: checked<[port: OvPort, shape: Partial<OvPartialShape>]>(
      'ov_port_get_partial_shape(const ov_output_const_port_t *port, _Out_ ov_partial_shape_t *partial_shape)',
    ),
    ov_partial_shape_free: freeing<OvPartialShape>(
      'ov_partial_shape_free(ov_partial_shape_t *partial_shape)',
    ),
    ov_output_const_port_free: freeing<OvPort>('ov_output_const_port_free(ov_output_const_port_t *port)'),
    ov_tensor_create: checked<[type: number, shape: OvShape, tensor: Out<OvTensor>]>(
      'ov_tensor_create(ov_element_type_e type, ov_shape_t shape, _Out_ ov_tensor_t **tensor)',
    ),
    ov_tensor_create_from_host_ptr: checked<
      [type: number, shape: OvShape, host: ArrayBufferView, tensor: Out<OvTensor>]
    >(
      'ov_tensor_create_from_host_ptr(ov_element_type_e type, ov_shape_t shape, void *host_ptr, _Out_ ov_tensor_t **tensor)',
    ),
    ov_tensor_get_byte_size: checked<[tensor: OvTensor, bytes: Out<number>]>(
      'ov_tensor_get_byte_size(const ov_tensor_t *tensor, _Out_ size_t *byte_size)',
    ),
    ov_tensor_data: checked<[tensor: OvTensor, data: Out<Pointer>]>(
      'ov_tensor_data(const ov_tensor_t *tensor, _Out_ void **data)',
    ),
    ov_tensor_free: freeing<OvTensor>('ov_tensor_free(ov_tensor_t *tensor)'),
    ov_infer_request_set_input_tensor_by_index: checked<
      [request: OvInferRequest, index: number, tensor: OvTensor]
    >(
      'ov_infer_request_set_input_tensor_by_index(ov_infer_request_t *infer_request, size_t idx, const ov_tensor_t *tensor)',
    ),
    ov_infer_request_get_output_tensor_by_index: checked<
      [request: OvInferRequest, index: number, tensor: Out<OvTensor>]
    >(
      'ov_infer_request_get_output_tensor_by_index(const ov_infer_request_t *infer_request, size_t idx, _Out_ ov_tensor_t **tensor)',
    ),
    ov_infer_request_infer: checked<[request: OvInferRequest]>(
      'ov_infer_request_infer(ov_infer_request_t *infer_request)',
    ),
    ov_infer_request_get_profiling_info: checked<
      [request: OvInferRequest, infos: Partial<OvProfilingInfoList>]
    >(
      'ov_infer_request_get_profiling_info(const ov_infer_request_t *infer_request, _Out_ ov_profiling_info_list_t *profiling_infos)',
    ),
    ov_profiling_info_list_free: freeing<OvProfilingInfoList>(
      'ov_profiling_info_list_free(ov_profiling_info_list_t *profiling_infos)',
    ),
    ov_infer_request_free: freeing<OvInferRequest>(
      'ov_infer_request_free(ov_infer_request_t *infer_request)',
    ),
  }
}
