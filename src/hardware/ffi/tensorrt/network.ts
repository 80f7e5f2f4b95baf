/** A network under construction, and its inputs and outputs. */
import type { Pointer } from '../library.ts'
import { fromNativeDims, type TensorType, toTensorType } from './dims.ts'
import { TensorrtObject } from './object.ts'

export interface NetworkTensor {
  readonly name: string
  readonly type: TensorType
  /** -1 is open. */
  readonly shape: readonly number[]
}

/** Belongs to its builder. */
export class Network extends TensorrtObject {
  get inputs(): NetworkTensor[] {
    return Array.from({ length: this.call('INetworkDefinition::getNbInputs') }, (_, index) =>
      this.#describe(this.callChecked('INetworkDefinition::getInput', index)),
    )
  }

  get outputs(): NetworkTensor[] {
    return Array.from({ length: this.call('INetworkDefinition::getNbOutputs') }, (_, index) =>
      this.#describe(this.callChecked('INetworkDefinition::getOutput', index)),
    )
  }

  #describe(tensor: Pointer): NetworkTensor {
    return {
      name: this.tensorrt.call(tensor, 'ITensor::getName') ?? '',
      type: toTensorType(this.tensorrt.call(tensor, 'ITensor::getType')),
      shape: fromNativeDims(this.tensorrt.call(tensor, 'ITensor::getDimensions')),
    }
  }
}
