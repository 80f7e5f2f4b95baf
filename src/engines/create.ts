/** Engines by name; an engine's native libraries are loaded when it is asked for, not before. */
import type { createCudaEngine } from './cuda/cuda-engine.ts'
import type { Engine } from './engine.ts'
import type { OnnxEngineOptions } from './onnx/onnx-engine.ts'
import type { OpenvinoEngineOptions } from './openvino/openvino-engine.ts'
import type { TensorrtEngineOptions } from './tensorrt/tensorrt-engine.ts'

export interface EngineOptionsByName {
  readonly onnx: OnnxEngineOptions
  readonly openvino: OpenvinoEngineOptions
  readonly tensorrt: TensorrtEngineOptions
  readonly cuda: Parameters<typeof createCudaEngine>[0]
}

export type EngineName = keyof EngineOptionsByName

const creators: { readonly [Name in EngineName]: (options: EngineOptionsByName[Name]) => Promise<Engine> } = {
  onnx: async (options) => (await import('./onnx/onnx-engine.ts')).createOnnxEngine(options),
  openvino: async (options) => (await import('./openvino/openvino-engine.ts')).createOpenvinoEngine(options),
  tensorrt: async (options) => (await import('./tensorrt/tensorrt-engine.ts')).createTensorrtEngine(options),
  cuda: async (options) => (await import('./cuda/cuda-engine.ts')).createCudaEngine(options),
}

/** @throws {EmbedError} as the engine's own creator */
export async function createEngine<Name extends EngineName>(
  name: Name,
  options: EngineOptionsByName[Name],
): Promise<Engine> {
  return creators[name](options)
}
