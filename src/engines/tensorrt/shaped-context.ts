/** An execution context with addresses bound, brought to a shape before it runs. */
import type { ExecutionContext } from '../../hardware/ffi/tensorrt/execution-context.ts'
import type { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { StagingBuffer } from '../../hardware/gpu/staging-buffer.ts'
import type { LoadedPlan } from './loaded-plan.ts'
import type { EngineShape } from './profile-shapes.ts'

export interface BoundTensor {
  readonly name: string
  readonly staging: StagingBuffer
}

export class ShapedContext implements Disposable {
  readonly #context: ExecutionContext
  readonly #inputs: LoadedPlan['inputs']
  readonly #tensors: readonly BoundTensor[]
  #shape: EngineShape | undefined

  /** @param scratch shared by contexts that run in one stream, one after the other
   * @throws {EmbedError} TENSORRT_FAILED */
  constructor(plan: LoadedPlan, scratch: DeviceBuffer, tensors: readonly BoundTensor[]) {
    this.#context = plan.engine.createContext('given')
    this.#context.setDeviceMemory(scratch.handle, scratch.bytes)
    this.#inputs = plan.inputs
    this.#tensors = tensors
  }

  /** Nothing that it enqueued may be under way. @throws {EmbedError} TENSORRT_FAILED */
  takeShape(shape: EngineShape, stream: GpuStream): void {
    const { profile, rows, tokens, key } = shape
    if (key === this.#shape?.key) return
    if (profile !== this.#shape?.profile) {
      this.#context.setProfile(profile, stream.handle)
      for (const { name, staging } of this.#tensors) this.#context.setAddress(name, staging.devicePointer)
    }
    // Until all is set it is no shape at all.
    this.#shape = undefined
    for (const { name, cellShape } of this.#inputs) {
      this.#context.setInputShape(name, [rows, tokens, ...cellShape])
    }
    this.#shape = shape
  }

  /** @throws {EmbedError} TENSORRT_FAILED */
  enqueue(stream: GpuStream): void {
    this.#context.enqueue(stream.handle)
  }

  [Symbol.dispose](): void {
    this.#context[Symbol.dispose]()
  }
}
