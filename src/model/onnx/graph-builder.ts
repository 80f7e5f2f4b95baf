import type { Attribute, DataType, OnnxNode, OnnxValue } from './proto.ts'

/** A constant of the graph; its bytes are made when they are written, one tensor at a time. */
export interface Initializer {
  readonly name: string
  readonly type: DataType
  readonly shape: readonly number[]
  readonly byteLength: number
  readonly load: () => Promise<Uint8Array>
}

export interface OnnxGraph {
  readonly name: string
  readonly nodes: readonly OnnxNode[]
  readonly inputs: readonly OnnxValue[]
  readonly outputs: readonly OnnxValue[]
  readonly initializers: readonly Initializer[]
}

/** Collects nodes in the order they run. Every node is named after its one output, and names are given by the caller:
 * the same model always gives the same graph. */
export class GraphBuilder {
  readonly #name: string
  readonly #nodes: OnnxNode[] = []
  readonly #inputs: OnnxValue[] = []
  readonly #outputs: OnnxValue[] = []
  readonly #initializers = new Map<string, Initializer>()

  constructor(name: string) {
    this.#name = name
  }

  input(name: string, type: DataType, shape: readonly (number | string)[]): string {
    this.#inputs.push({ name, type, shape })
    return name
  }

  output(name: string, type: DataType, shape: readonly (number | string)[]): void {
    this.#outputs.push({ name, type, shape })
  }

  /** @returns `output`, the name of what the node computes */
  node(
    opType: string,
    inputs: readonly string[],
    output: string,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string {
    this.#nodes.push({ name: output, opType, inputs, outputs: [output], attributes })
    return output
  }

  /** A float weight, row-major, of the given shape. */
  weight(name: string, shape: readonly number[], load: () => Promise<Float32Array>): string {
    const byteLength = 4 * shape.reduce((product, size) => product * size, 1)
    return this.#constant({ name, type: 'float', shape, byteLength, load: async () => toBytes(await load()) })
  }

  /** A float scalar; the same name gives the same constant. */
  scalar(name: string, value: number): string {
    const bytes = toBytes(Float32Array.of(value))
    return this.#constant({ name, type: 'float', shape: [], byteLength: 4, load: async () => bytes })
  }

  /** An int64 vector, or a scalar when `value` is a number; the same name gives the same constant. */
  integers(name: string, value: number | readonly number[]): string {
    const list = typeof value === 'number' ? [value] : value
    const bytes = toBytes(BigInt64Array.from(list, BigInt))
    const shape = typeof value === 'number' ? [] : [list.length]
    return this.#constant({ name, type: 'int64', shape, byteLength: bytes.length, load: async () => bytes })
  }

  build(): OnnxGraph {
    return {
      name: this.#name,
      nodes: this.#nodes,
      inputs: this.#inputs,
      outputs: this.#outputs,
      initializers: [...this.#initializers.values()],
    }
  }

  #constant(initializer: Initializer): string {
    if (!this.#initializers.has(initializer.name)) this.#initializers.set(initializer.name, initializer)
    return initializer.name
  }
}

/** ONNX is little-endian, as is every machine that Node's x64 and arm64 builds run on. */
function toBytes(array: Float32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}
