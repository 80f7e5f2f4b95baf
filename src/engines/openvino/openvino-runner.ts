/** One infer request: writes a rectangle into its input tensors, infers, reads the output in place. */
import { EmbedError } from '../../errors.ts'
import {
  INFER_CANCELLED,
  type Openvino,
  type OvInferRequest,
  type OvTensor,
} from '../../hardware/ffi/openvino.ts'
import { type Pointer, readOut, viewMemory } from '../../hardware/ffi/library.ts'
import { createInputBuffers } from '../input-buffers.ts'
import { writeRectangle } from '../padding.ts'
import type { RectangleRunner } from '../rectangular-engine.ts'
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
      await infer(api, request)
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
    cancel: () => api.ov_infer_request_cancel(request),
  }
}

async function infer(api: Openvino, request: OvInferRequest): Promise<void> {
  try {
    await api.ov_infer_request_infer.async(request)
  } catch (error) {
    if (error instanceof EmbedError && error.code === 'OPENVINO_STATUS') {
      const { status } = (error as EmbedError<'OPENVINO_STATUS'>).details
      if (status === INFER_CANCELLED) throw new EmbedError('REQUEST_CANCELLED', {}, { cause: error })
    }
    throw error
  }
}
