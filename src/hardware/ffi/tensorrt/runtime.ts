/** Loads a plan into an engine, and tells what the engine takes and gives. */
import type { Pointer } from '../library.ts'
import { fromNativeDims, type TensorType, toTensorType } from './dims.ts'
import { ExecutionContext } from './execution-context.ts'
import { TensorrtObject } from './object.ts'
import type { Tensorrt } from './tensorrt.ts'

/** A plan outside JavaScript's arrays, which end at 4 GiB: a mapped file. */
export interface PlanMemory {
  readonly pointer: Pointer
  readonly bytes: number
}

export class Runtime extends TensorrtObject {
  /** @throws {EmbedError} TENSORRT_FAILED, TENSORRT_VERSION */
  constructor(tensorrt: Tensorrt) {
    super(tensorrt, 'a TensorRT runtime', tensorrt.createInferRuntime())
  }

  /** Copies the weights to the GPU, off the event loop. `plan` must stay unchanged until it settles.
   * @throws {EmbedError} TENSORRT_FAILED with TensorRT's words: another version, another chip, no memory */
  async deserialize(plan: Uint8Array | PlanMemory): Promise<CudaEngine> {
    const api = 'IRuntime::deserializeCudaEngine'
    const [memory, bytes] = plan instanceof Uint8Array ? [plan, plan.length] : [plan.pointer, plan.bytes]
    const handle = this.tensorrt.need(api, await this.callAsync(api, [], memory, bytes))
    return new CudaEngine(this.tensorrt, 'a TensorRT engine', handle, this)
  }
}

export interface EngineTensor {
  readonly name: string
  readonly mode: 'input' | 'output'
  readonly type: TensorType
  /** -1 is open. */
  readonly shape: readonly number[]
}

/** Belongs to its runtime. */
export class CudaEngine extends TensorrtObject {
  get tensors(): EngineTensor[] {
    return Array.from({ length: this.call('ICudaEngine::getNbIOTensors') }, (_, index) => {
      const name = this.callChecked('ICudaEngine::getIOTensorName', index)
      return {
        name,
        mode: this.call('ICudaEngine::getTensorIOMode', name) === kINPUT ? 'input' : 'output',
        type: toTensorType(this.call('ICudaEngine::getTensorDataType', name)),
        shape: fromNativeDims(this.call('ICudaEngine::getTensorShape', name)),
      }
    })
  }

  get profileCount(): number {
    return this.call('ICudaEngine::getNbOptimizationProfiles')
  }

  /** The shapes of an input that a profile was made for. */
  profileShapes(input: string, profile: number): Readonly<Record<'min' | 'opt' | 'max', number[]>> {
    const [min, opt, max] = [0, 1, 2].map((selector) =>
      fromNativeDims(this.call('ICudaEngine::getProfileShape', input, profile, selector)),
    )
    return { min: min!, opt: opt!, max: max! }
  }

  /** GPU memory that each execution context needs beside the weights; undefined in 10.0, which cannot tell. */
  get contextBytes(): number | undefined {
    const { major, minor } = this.tensorrt.version
    if (major === 10 && minor === 0) return undefined
    return Number(this.call('ICudaEngine::getDeviceMemorySizeV2'))
  }

  /** @param memory 'own': the context allocates `contextBytes` itself; 'given': setDeviceMemory gives them
   * @throws {EmbedError} TENSORRT_FAILED */
  createContext(memory: 'own' | 'given' = 'own'): ExecutionContext {
    const strategy = memory === 'own' ? kSTATIC : kUSER_MANAGED
    const handle = this.callChecked('ICudaEngine::createExecutionContext', strategy)
    return new ExecutionContext(this.tensorrt, 'an execution context', handle, this)
  }

  /** Layers, precisions and tactics as TensorRT's JSON; as detailed as the profiling verbosity of the build.
   * @throws {EmbedError} TENSORRT_FAILED */
  inspect(): string {
    const handle = this.callChecked('ICudaEngine::createEngineInspector')
    using inspector = new EngineInspector(this.tensorrt, 'an engine inspector', handle, this)
    return inspector.readJson()
  }
}

/** Belongs to its engine. */
export class EngineInspector extends TensorrtObject {
  readJson(): string {
    return this.callChecked('IEngineInspector::getEngineInformation', kJSON)
  }
}

/** TensorIOMode */
const kINPUT = 1
/** ExecutionContextAllocationStrategy: one piece of memory, large enough for every profile. */
const kSTATIC = 0
const kUSER_MANAGED = 2
/** LayerInformationFormat */
const kJSON = 1
