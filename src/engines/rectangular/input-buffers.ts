/** Memory that a runtime reads a rectangle's inputs from: grown when needed, reused otherwise. */
import type { CellBuffer, RectangleInputs } from './padding.ts'
import type { InputRole, ModelPorts } from './model-ports.ts'

export interface InputBuffers {
  /** Buffers of at least `cells` cells, in the model's order of inputs; what they held before is lost. */
  reserve(cells: number): { readonly inOrder: readonly CellBuffer[]; readonly byRole: RectangleInputs }
}

export function createInputBuffers(inputs: ModelPorts['inputs']): InputBuffers {
  let capacity = 0
  let buffers: ReturnType<InputBuffers['reserve']> | undefined
  return {
    reserve(cells) {
      if (buffers === undefined || cells > capacity) {
        capacity = Math.max(cells, capacity * 2)
        const inOrder = inputs.map(({ elementBytes }): CellBuffer => {
          const stride = elementBytes === 8 ? 2 : 1
          // An ArrayBuffer of its own: small typed arrays live in V8's heap, where the collector moves them.
          return { values: new Int32Array(new ArrayBuffer(capacity * elementBytes)), stride }
        })
        const of = (role: InputRole) => inOrder[inputs.findIndex((input) => input.role === role)]
        // Token types stay 0: one text a sequence.
        buffers = {
          inOrder,
          byRole: {
            inputIds: of('inputIds')!,
            attentionMask: of('attentionMask'),
            positionIds: of('positionIds'),
          },
        }
      }
      return buffers
    },
  }
}
