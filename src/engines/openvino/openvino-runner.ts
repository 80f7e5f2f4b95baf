/** One infer request: writes a rectangle into its input tensors, infers, reads the output in place. */
import { type Openvino, type OvInferRequest, type OvTensor } from '../../hardware/ffi/openvino.ts'
import { type Pointer, readOut, viewMemory } from '../../hardware/ffi/library.ts'
import { createInputBuffers } from '../rectangular/input-buffers.ts'
import { writeRectangle } from '../rectangular/padding.ts'
import type { RectangleRunner } from '../rectangular/rectangular-engine.ts'
import type { OpenvinoPorts } from './openvino-ports.ts'

/** The request stays the caller's, who frees it when nothing runs. */
export function createOpenvinoRunner(
  api: Openvino,
  request: OvInferRequest,
  ports: OpenvinoPorts,
  padTokenId: number,
): RectangleRunner {
  const buffers = createInputBuffers(ports.inputs)
  return {
    async run(batch, rectangle, read) {
      const { paddedLength, sequences } = rectangle
      const { inOrder, byRole } = buffers.reserve(sequences.length * paddedLength)
      writeRectangle(batch, rectangle, padTokenId, byRole)
      const shape = { rank: 2, dims: BigInt64Array.of(BigInt(sequences.length), BigInt(paddedLength)) }
      inOrder.forEach(({ values }, index) => {
        const type = ports.inputTypes[index]!
        const tensor = readOut<OvTensor>((out) =>
          api.ov_tensor_create_from_host_ptr(type, shape, values, out),
        )
        try {
          api.ov_infer_request_set_input_tensor_by_index(request, index, tensor)
        } finally {
          api.ov_tensor_free(tensor)
        }
      })
      // Never cancelled half-way: with open dimensions the request then keeps shapes of both runs, and the next one fails.
      await api.ov_infer_request_infer.async(request)
      const output = readOut<OvTensor>((out) =>
        api.ov_infer_request_get_output_tensor_by_index(request, ports.output.index, out),
      )
      try {
        const data = readOut<Pointer>((out) => api.ov_tensor_data(output, out))
        const rows = ports.output.kind === 'tokens' ? sequences.length * paddedLength : sequences.length
        read(new Float32Array(viewMemory(data, rows * ports.output.dimensions * 4)))
      } finally {
        api.ov_tensor_free(output)
      }
    },
  }
}
