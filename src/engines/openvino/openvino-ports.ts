/** Reads the inputs and outputs of a compiled OpenVINO model. */
import {
  type Openvino,
  type OvCompiledModel,
  type OvPartialShape,
  type OvPort,
  type OvTensor,
} from '../../hardware/ffi/openvino.ts'
import { readInt64s, readOut } from '../../hardware/ffi/library.ts'
import { type InputPort, matchPorts, type ModelPorts, type OutputPort } from '../rectangular/model-ports.ts'

export interface OpenvinoPorts extends ModelPorts {
  /** ov_element_type_e of each input, as this version of the library numbers them. */
  readonly inputTypes: readonly number[]
}

/** @throws {EmbedError} ENGINE_UNAVAILABLE when the graph is not that of an encoder */
export function readPorts(api: Openvino, compiled: OvCompiledModel, hiddenSize: number): OpenvinoPorts {
  const inputs = Array.from(
    { length: readOut<number>((out) => api.ov_compiled_model_inputs_size(compiled, out)) },
    (_, index) =>
      usePort(
        api,
        (out) => api.ov_compiled_model_input_by_index(compiled, index, out),
        (port) => {
          const type = readOut<number>((out) => api.ov_port_get_element_type(port, out))
          return { name: readName(api, port), elementBytes: elementBytes(api, type), type }
        },
      ),
  )
  const outputs = Array.from(
    { length: readOut<number>((out) => api.ov_compiled_model_outputs_size(compiled, out)) },
    (_, index) =>
      usePort(
        api,
        (out) => api.ov_compiled_model_output_by_index(compiled, index, out),
        (port): OutputPort => ({
          name: readName(api, port),
          shape: readShape(api, port),
          isFloat32:
            elementBytes(
              api,
              readOut<number>((out) => api.ov_port_get_element_type(port, out)),
            ) === 4,
        }),
      ),
  )
  const ports = matchPorts('openvino', inputs satisfies InputPort[], outputs, hiddenSize)
  return { ...ports, inputTypes: inputs.map(({ type }) => type) }
}

function usePort<Result>(
  api: Openvino,
  open: (out: [OvPort | null]) => void,
  read: (port: OvPort) => Result,
): Result {
  const port = readOut<OvPort>(open)
  try {
    return read(port)
  } finally {
    api.ov_output_const_port_free(port)
  }
}

function readName(api: Openvino, port: OvPort): string {
  return readOut<string>((out) => api.ov_port_get_any_name(port, out))
}

function readShape(api: Openvino, port: OvPort): number[] {
  const shape: Partial<OvPartialShape> = {}
  api.ov_port_get_partial_shape(port, shape)
  const { rank, dims } = shape as OvPartialShape
  try {
    // Pairs of the least and the greatest length: an open dimension has two different ones.
    const bounds = readInt64s(dims, rank.max * 2)
    return Array.from({ length: rank.max }, (_, i) =>
      bounds[2 * i] === bounds[2 * i + 1] ? bounds[2 * i]! : -1,
    )
  } finally {
    api.ov_partial_shape_free(shape as OvPartialShape)
  }
}

/** Asked of a tensor, because the numbers of ov_element_type_e have moved between releases. */
function elementBytes(api: Openvino, type: number): number {
  const tensor = readOut<OvTensor>((out) =>
    api.ov_tensor_create(type, { rank: 1, dims: BigInt64Array.of(1n) }, out),
  )
  try {
    return readOut<number>((out) => api.ov_tensor_get_byte_size(tensor, out))
  } finally {
    api.ov_tensor_free(tensor)
  }
}
