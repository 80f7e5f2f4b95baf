/** Reads the inputs and outputs of an ONNX Runtime session. */
import { readOut, readText, type Out, type Pointer } from '../../hardware/ffi/library.ts'
import {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
  type Onnxruntime,
  type OrtAllocator,
  type OrtSession,
  type OrtTensorInfo,
  type OrtTypeInfo,
} from '../../hardware/ffi/onnxruntime.ts'
import { matchPorts, type ModelPorts } from '../rectangular/model-ports.ts'

/** @throws {EmbedError} ENGINE_UNAVAILABLE when the graph is not that of an encoder */
export function readPorts(api: Onnxruntime, session: OrtSession, hiddenSize: number): ModelPorts {
  const inputCount = readOut<number>((out) => api.SessionGetInputCount(session, out))
  const outputCount = readOut<number>((out) => api.SessionGetOutputCount(session, out))
  const inputs = Array.from({ length: inputCount }, (_, index) => {
    const { type } = readTensorInfo(api, (out) => api.SessionGetInputTypeInfo(session, index, out))
    const name = readName(api, (allocator, out) => api.SessionGetInputName(session, index, allocator, out))
    return { name, elementBytes: elementBytes(type) }
  })
  const outputs = Array.from({ length: outputCount }, (_, index) => {
    const { type, shape } = readTensorInfo(api, (out) => api.SessionGetOutputTypeInfo(session, index, out))
    const name = readName(api, (allocator, out) => api.SessionGetOutputName(session, index, allocator, out))
    return { name, shape, isFloat32: type === ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT }
  })
  return matchPorts('onnx', inputs, outputs, hiddenSize)
}

function readTensorInfo(
  api: Onnxruntime,
  open: (out: Out<OrtTypeInfo>) => void,
): { type: number; shape: number[] } {
  const typeInfo = readOut<OrtTypeInfo>(open)
  try {
    const info = readOut<OrtTensorInfo | null>((out) => api.CastTypeInfoToTensorInfo(typeInfo, out))
    if (info === null) return { type: 0, shape: [] }
    const rank = readOut<number>((out) => api.GetDimensionsCount(info, out))
    const shape = new BigInt64Array(rank)
    api.GetDimensions(info, shape, rank)
    return {
      type: readOut<number>((out) => api.GetTensorElementType(info, out)),
      shape: Array.from(shape, Number),
    }
  } finally {
    api.ReleaseTypeInfo(typeInfo)
  }
}

function readName(api: Onnxruntime, read: (allocator: OrtAllocator, out: Out<Pointer>) => void): string {
  const allocator = readOut<OrtAllocator>((out) => api.GetAllocatorWithDefaultOptions(out))
  const text = readOut<Pointer>((out) => read(allocator, out))
  try {
    return readText(text)
  } finally {
    api.AllocatorFree(allocator, text)
  }
}

/** 0 for what cannot be a model's input here. */
function elementBytes(type: number): number {
  if (type === ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64) return 8
  return type === ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 ? 4 : 0
}
