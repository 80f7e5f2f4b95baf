/** Runs rectangles on an ONNX Runtime session, one at a time, and reads the output in place. */
import { type Out, type Pointer, readOut, viewMemory } from '../../hardware/ffi/library.ts'
import {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
  type Onnxruntime,
  type OrtMemoryInfo,
  type OrtRunOptions,
  type OrtSession,
  type OrtValue,
} from '../../hardware/ffi/onnxruntime.ts'
import { createInputBuffers } from '../rectangular/input-buffers.ts'
import type { ModelPorts } from '../rectangular/model-ports.ts'
import { writeRectangle } from '../rectangular/padding.ts'
import type { RectangleRunner } from '../rectangular/rectangular-engine.ts'

export interface OnnxRunnerHandles {
  readonly session: OrtSession
  readonly runOptions: OrtRunOptions
  readonly memoryInfo: OrtMemoryInfo
}

/** The handles stay the caller's, who frees them when nothing runs. */
export function createOnnxRunner(
  api: Onnxruntime,
  { session, runOptions, memoryInfo }: OnnxRunnerHandles,
  ports: ModelPorts,
  padTokenId: number,
): RectangleRunner {
  const buffers = createInputBuffers(ports.inputs)
  const inputNames = ports.inputs.map(({ name }) => name)
  const outputNames = [ports.output.name]
  return {
    async run(batch, rectangle, read) {
      const { paddedLength, sequences } = rectangle
      const cells = sequences.length * paddedLength
      const { inOrder, byRole } = buffers.reserve(cells)
      writeRectangle(batch, rectangle, padTokenId, byRole)
      const shape = BigInt64Array.of(BigInt(sequences.length), BigInt(paddedLength))
      const values: OrtValue[] = []
      try {
        for (const { values: data, stride } of inOrder) {
          const type =
            stride === 2 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32
          const bytes = cells * stride * 4
          values.push(
            readOut<OrtValue>((out) =>
              api.CreateTensorWithDataAsOrtValue(memoryInfo, data, bytes, shape, 2, type, out),
            ),
          )
        }
        // Only now: an abort between two rectangles is seen by the engine, not left over for the next batch.
        api.RunOptionsUnsetTerminate(runOptions)
        const outputs: Out<OrtValue> = [null]
        const inputs = values.slice()
        await api.Run.async(session, runOptions, inputNames, inputs, inputs.length, outputNames, 1, outputs)
        const output = outputs[0]!
        values.push(output)
        const data = readOut<Pointer>((out) => api.GetTensorMutableData(output, out))
        const rows = ports.output.kind === 'tokens' ? cells : sequences.length
        read(new Float32Array(viewMemory(data, rows * ports.output.dimensions * 4)))
      } finally {
        for (const value of values) api.ReleaseValue(value)
      }
    },
    cancel: () => api.RunOptionsSetTerminate(runOptions),
  }
}
