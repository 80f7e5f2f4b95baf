/** Which of an ONNX model's inputs and outputs mean what: our own export, and what Hugging Face folders bring. */
import { EmbedError } from '../../errors.ts'

export interface InputPort {
  readonly name: string
  /** 4 for int32, 8 for int64; anything else is refused. */
  readonly elementBytes: number
}

export interface OutputPort {
  readonly name: string
  /** -1 = open. */
  readonly shape: readonly number[]
  readonly isFloat32: boolean
}

export const inputRoles = ['inputIds', 'attentionMask', 'tokenTypeIds', 'positionIds'] as const
export type InputRole = (typeof inputRoles)[number]

export interface ModelPorts {
  /** In the model's order. */
  readonly inputs: readonly {
    readonly role: InputRole
    readonly name: string
    readonly elementBytes: 4 | 8
  }[]
  /** 'tokens': f32 [rows, paddedLength, dimensions]; 'pooled': f32 [rows, dimensions]. */
  readonly output: {
    readonly index: number
    readonly name: string
    readonly kind: 'tokens' | 'pooled'
    readonly dimensions: number
  }
}

const roles: Readonly<Record<string, InputRole>> = {
  input_ids: 'inputIds',
  attention_mask: 'attentionMask',
  token_type_ids: 'tokenTypeIds',
  position_ids: 'positionIds',
}

/** @param hiddenSize of the model's configuration, for outputs whose last dimension is open
 * @throws {EmbedError} ENGINE_UNAVAILABLE when the graph is not that of an encoder */
export function matchPorts(
  engine: string,
  inputs: readonly InputPort[],
  outputs: readonly OutputPort[],
  hiddenSize: number,
): ModelPorts {
  const refuse = (reason: string, fix: string) =>
    new EmbedError('ENGINE_UNAVAILABLE', { engine, reason, fix })
  const matched = inputs.map(({ name, elementBytes }) => {
    const role = roles[name]
    if (role === undefined) {
      throw refuse(
        `the ONNX model wants an input '${name}'`,
        `export it with the inputs ${Object.keys(roles).join(', ')} only (feature extraction, no past key values)`,
      )
    }
    if (elementBytes !== 4 && elementBytes !== 8) {
      throw refuse(`the ONNX model's input '${name}' is not int32 or int64`, 'export it with int64 inputs')
    }
    return { role, name, elementBytes: elementBytes === 4 ? (4 as const) : (8 as const) }
  })
  if (!matched.some(({ role }) => role === 'inputIds')) {
    throw refuse("the ONNX model has no input 'input_ids'", 'export a text encoder')
  }
  const index = chooseOutput(outputs)
  const output = outputs[index]
  if (output === undefined) {
    throw refuse(
      `the ONNX model has no hidden states among its outputs (${outputs.map(({ name }) => name).join(', ')})`,
      "export it with the output 'last_hidden_state'",
    )
  }
  if (!output.isFloat32) {
    throw refuse(`the ONNX model's output '${output.name}' is not float32`, 'export it with float32 outputs')
  }
  const last = output.shape.at(-1)!
  const kind = output.shape.length === 3 ? 'tokens' : 'pooled'
  return {
    inputs: matched,
    output: { index, name: output.name, kind, dimensions: last > 0 ? last : hiddenSize },
  }
}

function chooseOutput(outputs: readonly OutputPort[]): number {
  const wanted: ((output: OutputPort) => boolean)[] = [
    ({ name, shape }) => shape.length === 3 && name === 'last_hidden_state',
    ({ name, shape }) => shape.length === 3 && name === 'token_embeddings',
    ({ shape }) => shape.length === 3,
    ({ name, shape }) => shape.length === 2 && (name === 'sentence_embedding' || name === 'embedding'),
  ]
  return wanted.map((test) => outputs.findIndex(test)).find((index) => index !== -1) ?? -1
}
