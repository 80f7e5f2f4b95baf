import { EmbedError } from '../../errors.ts'
import type { ArithmeticType } from './arithmetic.ts'
import { largestMagnitude, maxFloat8, narrow, roundUp, toBytes } from './element-types.ts'
import type { GraphBuilder } from './graph-builder.ts'
import type { ModelWeights, StoredTensor } from './model-weights.ts'
import { loadForMatMul, loadJoined } from './weight-loaders.ts'

export interface LinearLayer {
  /** Of the sum, e.g. 'layer.0.attention.qkv'; the MatMul is called `<name>.product`. */
  readonly name: string
  /** The key of the input's scale, where it is not the layer's name: layers that read the same input share one. */
  readonly inputName?: string
  /** Tensors without '.weight' and '.bias'; several are laid side by side. */
  readonly stored: readonly string[]
  readonly inputs: number
  /** Of each stored tensor. */
  readonly outputs: readonly number[]
  readonly hasBias: boolean
}

export interface LinearOptions {
  readonly type: ArithmeticType
  /** Set for E4M3: the scale of a layer's input, by its key; what is quantised is the input divided by it. */
  readonly inputScale?: ((inputName: string) => number) | undefined
}

/** The linear layers of one graph: y = x W^T (+ b), with Q/DQ pairs around the product where it is E4M3. */
export class Linears {
  readonly #graph: GraphBuilder
  readonly #weights: ModelWeights
  readonly #options: LinearOptions
  readonly #quantized = new Map<string, string>()
  readonly #inputs = new Map<string, string>()

  constructor(graph: GraphBuilder, weights: ModelWeights, options: LinearOptions) {
    this.#graph = graph
    this.#weights = weights
    this.#options = options
  }

  /** The values that the layers read, by the key of their scale, in the order of their first use. */
  get inputs(): ReadonlyMap<string, string> {
    return this.#inputs
  }

  /** @returns the name of the output */
  apply(input: string, layer: LinearLayer): string {
    const { name, stored, inputs, outputs, hasBias } = layer
    const { type } = this.#options
    const inputName = layer.inputName ?? name
    if (!this.#inputs.has(inputName)) this.#inputs.set(inputName, input)
    const width = outputs.reduce((sum, size) => sum + size, 0)
    const matrices = stored.map((each, i) => this.#weights.get(`${each}.weight`, [outputs[i]!, inputs]))
    const product = this.#product(input, name, inputName, [inputs, width], matrices)
    if (!hasBias) return product
    const vectors = stored.map((each, i) => this.#weights.get(`${each}.bias`, [outputs[i]!]))
    const bias = this.#graph.weight(`${name}.bias`, [width], type, () => loadJoined(vectors, type))
    return this.#graph.node('Add', [product, bias], name)
  }

  #product(
    input: string,
    name: string,
    inputName: string,
    shape: readonly [number, number],
    matrices: readonly StoredTensor[],
  ): string {
    const graph = this.#graph
    const { type, inputScale } = this.#options
    if (inputScale === undefined) {
      const weight = graph.weight(`${name}.weight`, shape, type, () => loadForMatMul(matrices, type))
      return graph.node('MatMul', [input, weight], `${name}.product`)
    }
    const scale = once(() => weightScale(matrices, type))
    const quantized = graph.weight(`${name}.weight`, shape, 'float8e4m3fn', async function* () {
      yield* loadForMatMul(matrices, 'float8e4m3fn', await scale())
    })
    const scaleName = graph.weight(`${name}.weight_scale`, [], type, async function* () {
      yield toBytes(narrow(Float32Array.of(await scale()), type))
    })
    const weight = this.#dequantize(quantized, scaleName, `${name}.weight.dequantized`)
    return graph.node(
      'MatMul',
      [this.#quantizeInput(input, inputName, inputScale), weight],
      `${name}.product`,
    )
  }

  #quantizeInput(input: string, inputName: string, inputScale: (inputName: string) => number): string {
    const known = this.#quantized.get(input)
    if (known !== undefined) return known
    const graph = this.#graph
    const { type } = this.#options
    const scale = graph.scalar(`${inputName}.input_scale`, roundUp(inputScale(inputName), type), type)
    const quantized = graph.node('QuantizeLinear', [input, scale, this.#zero()], `${input}.quantized`)
    const wide = this.#dequantize(quantized, scale, `${input}.dequantized`)
    this.#quantized.set(input, wide)
    return wide
  }

  #dequantize(quantized: string, scale: string, output: string): string {
    return this.#graph.node('DequantizeLinear', [quantized, scale, this.#zero()], output)
  }

  /** E4M3 has no zero point, but its type tells what to quantise to. */
  #zero(): string {
    return this.#graph.scalar('zero.float8', 0, 'float8e4m3fn')
  }
}

/** One scale a layer: the largest weight becomes the largest number of E4M3.
 * @throws {EmbedError} MODEL_FILE_CORRUPT (NaN or infinity) */
async function weightScale(tensors: readonly StoredTensor[], type: ArithmeticType): Promise<number> {
  let largest = 0
  for (const tensor of tensors) {
    const magnitude = largestMagnitude(await tensor.read(), tensor.type)
    if (magnitude === Infinity) {
      throw new EmbedError('MODEL_FILE_CORRUPT', {
        file: tensor.file,
        reason: 'it has weights that are not finite',
      })
    }
    largest = Math.max(largest, magnitude)
  }
  // Zeros are zeros under any scale.
  return largest === 0 ? 1 : roundUp(largest / maxFloat8, type)
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined
  return () => (made ??= make())
}
