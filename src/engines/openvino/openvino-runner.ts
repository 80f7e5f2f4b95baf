/** One infer request: writes a rectangle into its input tensors, infers, reads the output in place. */
import { type Openvino, type OvInferRequest, type OvTensor } from '../../hardware/ffi/openvino.ts'
import { type Pointer, readOut, viewMemory } from '../../hardware/ffi/library.ts'
import { createInputBuffers } from '../rectangular/input-buffers.ts'
import { type CellBuffer, writeRectangle } from '../rectangular/padding.ts'
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
  /** What the request's tensors look at now: they stay for the next rectangle of the same shape (nine calls less). */
  let bound: { inOrder: readonly CellBuffer[]; rows: number; paddedLength: number } | undefined

  const bind = (inOrder: readonly CellBuffer[], rows: number, paddedLength: number): void => {
    if (bound?.inOrder === inOrder && bound.rows === rows && bound.paddedLength === paddedLength) return
    bound = undefined
    const shape = { rank: 2, dims: BigInt64Array.of(BigInt(rows), BigInt(paddedLength)) }
    inOrder.forEach(({ values }, index) => {
      const type = ports.inputTypes[index]!
      const tensor = readOut<OvTensor>((out) => api.ov_tensor_create_from_host_ptr(type, shape, values, out))
      try {
        api.ov_infer_request_set_input_tensor_by_index(request, index, tensor)
      } finally {
        api.ov_tensor_free(tensor)
      }
    })
    bound = { inOrder, rows, paddedLength }
  }

  return {
    async run(batch, rectangle, read) {
      const { paddedLength, sequences } = rectangle
      const { inOrder, byRole } = buffers.reserve(sequences.length * paddedLength)
      writeRectangle(batch, rectangle, padTokenId, byRole)
      bind(inOrder, sequences.length, paddedLength)
      // Never cancelled half-way: with open dimensions the request then keeps shapes of both runs, and the next one fails.
      await api.ov_infer_request_infer.async(request).catch((error: unknown) => {
        bound = undefined
        throw error
      })
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
