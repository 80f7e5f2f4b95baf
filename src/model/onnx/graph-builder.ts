import { elementBytes, type ElementType, narrow, toBytes } from './element-types.ts'
import { type Attribute, type DataType, dataTypes, type OnnxNode, type OnnxValue } from './proto.ts'

/** A constant of the graph; its bytes are made when they are written, a piece at a time. */
export interface Initializer {
  readonly name: string
  readonly type: DataType
  readonly shape: readonly number[]
  readonly byteLength: number
  readonly load: () => AsyncIterable<Uint8Array>
}

export interface OnnxGraph {
  readonly name: string
  readonly nodes: readonly OnnxNode[]
  readonly inputs: readonly OnnxValue[]
  readonly outputs: readonly OnnxValue[]
  readonly initializers: readonly Initializer[]
  /** Keys of the linear layers' inputs, in the order of activation_amax. */
  readonly linearLayers: readonly string[]
}

/** Collects nodes in the order they run. A node is named after its first output, and names are given by the caller:
 * the same model always gives the same graph. */
export class GraphBuilder {
  readonly #name: string
  readonly #nodes: OnnxNode[] = []
  readonly #inputs: OnnxValue[] = []
  readonly #outputs: OnnxValue[] = []
  readonly #computed = new Set<string>()
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
    this.#add(opType, inputs, [output], attributes)
    return output
  }

  /** Cuts the last axis into parts of `sizes`. @returns `outputs` */
  split(input: string, sizes: readonly number[], outputs: readonly string[]): readonly string[] {
    const parts = this.integers(`sizes.${sizes.join('.')}`, sizes)
    this.#add('Split', [input, parts], outputs, { axis: { int: -1 } })
    return outputs
  }

  /** `input` as `to`; nothing is added when it is that already. */
  cast(input: string, from: ElementType, to: ElementType, output: string): string {
    return from === to ? input : this.node('Cast', [input], output, { to: { int: dataTypes[to] } })
  }

  /** A weight, row-major, of the given shape. */
  weight(
    name: string,
    shape: readonly number[],
    type: ElementType,
    load: () => AsyncIterable<Uint8Array>,
  ): string {
    const byteLength = shape.reduce((product, size) => product * size, elementBytes[type])
    return this.#constant({ name, type, shape, byteLength, load })
  }

  /** A scalar; the same name gives the same constant. */
  scalar(name: string, value: number, type: ElementType = 'float'): string {
    return this.weight(name, [], type, async function* () {
      yield toBytes(narrow(Float32Array.of(value), type))
    })
  }

  /** An int64 vector, or a scalar when `value` is a number; the same name gives the same constant. */
  integers(name: string, value: number | readonly number[]): string {
    const list = typeof value === 'number' ? [value] : value
    const bytes = toBytes(BigInt64Array.from(list, BigInt))
    const shape = typeof value === 'number' ? [] : [list.length]
    const load = async function* () {
      yield bytes
    }
    return this.#constant({ name, type: 'int64', shape, byteLength: bytes.length, load })
  }

  build(linearLayers: Iterable<string>): OnnxGraph {
    return {
      name: this.#name,
      nodes: this.#nodes,
      inputs: this.#inputs,
      outputs: this.#outputs,
      initializers: [...this.#initializers.values()],
      linearLayers: [...linearLayers],
    }
  }

  #add(
    opType: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>>,
  ): void {
    for (const output of outputs) {
      // Some runtimes take a graph with two values of one name, and compute one of them.
      if (this.#computed.has(output)) throw new RangeError(`${output} is computed twice`)
      this.#computed.add(output)
    }
    this.#nodes.push({ name: outputs[0]!, opType, inputs, outputs, attributes })
  }

  #constant(initializer: Initializer): string {
    if (!this.#initializers.has(initializer.name)) this.#initializers.set(initializer.name, initializer)
    return initializer.name
  }
}
