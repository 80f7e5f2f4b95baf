/** Runs an engine on a stream, one batch at a time. Calls enqueue and return; the GPU's context must be current. */
import type { CudaStream, DevicePointer } from '../cuda.ts'
import { fromNativeDims, toNativeDims } from './dims.ts'
import { TensorrtObject } from './object.ts'

/** Belongs to its engine. */
export class ExecutionContext extends TensorrtObject {
  /** Not while work of another profile is under way. @throws {EmbedError} TENSORRT_FAILED */
  setProfile(index: number, stream: CudaStream): void {
    this.callChecked('IExecutionContext::setOptimizationProfileAsync', index, stream)
  }

  /** @throws {EmbedError} TENSORRT_FAILED when the profile does not hold the shape */
  setInputShape(input: string, shape: readonly number[]): void {
    this.callChecked('IExecutionContext::setInputShape', input, toNativeDims(shape))
  }

  /** Of a tensor for the input shapes set last; -1 is still open. */
  shapeOf(tensor: string): number[] {
    return fromNativeDims(this.call('IExecutionContext::getTensorShape', tensor))
  }

  /** Where an input is read or an output written. @throws {EmbedError} TENSORRT_FAILED */
  setAddress(tensor: string, pointer: DevicePointer): void {
    this.callChecked('IExecutionContext::setTensorAddress', tensor, pointer)
  }

  /** Memory for what lies between the layers, where the context was made without: CudaEngine.contextBytes of it. Contexts
   * whose work never overlaps may share one piece. */
  setDeviceMemory(pointer: DevicePointer, bytes: number): void {
    this.call('IExecutionContext::setDeviceMemoryV2', pointer, bytes)
  }

  /** @throws {EmbedError} TENSORRT_FAILED */
  enqueue(stream: CudaStream): void {
    this.callChecked('IExecutionContext::enqueueV3', stream)
  }
}
