/** The products of a pass: one plan for all layers that have the same shape. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import type { DiskCache } from '../../hardware/gpu/disk-cache.ts'
import {
  Matmul,
  type MatmulAlgorithm,
  type MatmulLibrary,
  type MatmulOperands,
  type MatmulPrecision,
  type MatmulShape,
} from '../../hardware/gpu/matmul.ts'
import { type FoundAlgorithm, searchAlgorithms } from '../../hardware/gpu/matmul-search.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import type { LinearWeights } from './gpu-weights.ts'
import { chooseForRows, type RowsChoice } from './rows-choice.ts'

/** What goes into a product. */
export interface LinearInput {
  /** bf16 or E4M3 [rows, inner] */
  readonly values: DevicePointer
  /** f32 [1] or [rows]; undefined for bf16 */
  readonly scale: DevicePointer | undefined
}

export interface LinearCall {
  readonly rows: number
  readonly input: LinearInput
  /** bf16 [rows, columns]; there must be room for roundRows(rows) of input, scales and output */
  readonly output: DevicePointer
  /** Adds to what the output holds. */
  readonly accumulate?: boolean
  /** Default: as the weights have one. */
  readonly withBias?: boolean
}

/** Rows that cost as much as `rows`: the tensor cores take tiles of 16 to 128 of them whatever is asked, and each count has
 * a plan of its own. The rows beyond are garbage that nobody reads. */
export function roundRows(rows: number): number {
  const step = rows <= 128 ? 16 : 128
  return Math.ceil(rows / step) * step
}

/** For each doubling so many numbers of rows, of which one stands for all between it and the one before. */
const countsPerOctave = 8

/** Of what roundRows gives all up to 2,048, beyond it fewer and fewer. @param most the last, as roundRows gives it */
export function sampledRows(most: number): number[] {
  const counts: number[] = []
  for (let rows = 16; rows < most;) {
    counts.push(rows)
    const octave = 2 ** Math.floor(Math.log2(rows))
    rows = roundRows(rows + octave / countsPerOctave)
  }
  return [...counts, most]
}

/** What a product may be done by. */
export type ProductChoice = MatmulAlgorithm & Pick<FoundAlgorithm, 'nodes'>

/** How the products of one shape are done. */
export interface ProductPlan {
  readonly matmul: Matmul
  algorithm: MatmulAlgorithm
  /** The fastest alone, that one first; none until they were searched. */
  choices: readonly ProductChoice[]
}

export class LinearLayers {
  readonly #library: MatmulLibrary
  readonly #precision: MatmulPrecision
  readonly #plans = new Map<string, ProductPlan>()
  /** Of each product the search with the most rows. */
  readonly #searched = new Map<string, { readonly weights: LinearWeights; readonly call: LinearCall }>()
  /** Of each product, by rows, the fewest first. */
  readonly #between = new Map<string, readonly RowsChoice[]>()

  constructor(library: MatmulLibrary, precision: MatmulPrecision) {
    this.#library = library
    this.#precision = precision
  }

  /** Enqueues input · weightsᵀ (+ bias). A shape met for the first time takes what was chosen for its number of rows, else
   * cuBLASLt's first choice.
   * @throws {EmbedError} MATMUL_UNSUPPORTED, CUBLAS_STATUS */
  launch(stream: GpuStream, weights: LinearWeights, call: LinearCall): void {
    const { operands, plan } = this.#planFor(weights, call)
    plan.matmul.launch(stream, operands, plan.algorithm)
  }

  /** Times all algorithms for the call's shape, once, and keeps the fastest; the output is garbage afterwards.
   * @returns the plan; undefined when it was searched before */
  async search(
    stream: GpuStream,
    weights: LinearWeights,
    call: LinearCall,
    cache?: DiskCache,
  ): Promise<ProductPlan | undefined> {
    const { operands, plan } = this.#planFor(weights, call)
    if (plan.choices.length > 0) return undefined
    const options = { stream, operands, ...(cache === undefined ? {} : { cache }) }
    plan.choices = await searchAlgorithms(plan.matmul, options)
    plan.algorithm = plan.choices[0]!
    const product = productOf(plan.matmul.shape)
    const largest = this.#searched.get(product)
    if (largest === undefined || largest.call.rows < call.rows) this.#searched.set(product, { weights, call })
    return plan
  }

  /** For numbers of rows between those that were searched, up to the most: the fastest of cuBLASLt's first choice and of what was
   * found for the others. Outputs are garbage afterwards. */
  async chooseBetween(stream: GpuStream, cache?: DiskCache): Promise<void> {
    for (const [product, { weights, call }] of this.#searched) {
      const plans = [...this.#plans.values()].filter(
        ({ choices, matmul: { shape } }) => choices.length > 0 && productOf(shape) === product,
      )
      const rows = sampledRows(roundRows(call.rows))
      const { shape, operands } = this.#describe(weights, call)
      const found = await chooseForRows({
        library: this.#library,
        shape,
        operands,
        plans,
        rows,
        stream,
        cache,
      })
      this.#between.set(product, found)
    }
  }

  #describe(weights: LinearWeights, call: LinearCall): { shape: MatmulShape; operands: MatmulOperands } {
    const { input, output, accumulate = false, withBias = weights.bias !== undefined } = call
    return {
      shape: {
        precision: this.#precision,
        rows: roundRows(call.rows),
        columns: weights.columns,
        inner: weights.inner,
        bias: withBias,
        accumulate,
      },
      operands: {
        a: input.values,
        b: weights.values,
        d: output,
        ...(input.scale === undefined ? {} : { aScale: input.scale }),
        ...(weights.scale === undefined ? {} : { bScale: weights.scale }),
        ...(withBias ? { bias: weights.bias! } : {}),
      },
    }
  }

  #planFor(weights: LinearWeights, call: LinearCall): { operands: MatmulOperands; plan: ProductPlan } {
    const { shape, operands } = this.#describe(weights, call)
    const key = JSON.stringify(shape)
    let plan = this.#plans.get(key)
    if (plan === undefined) {
      const matmul = new Matmul(this.#library, shape)
      const chosen = this.#between.get(productOf(shape))?.find(({ rows }) => rows >= shape.rows)
      const algorithm = (chosen && matmul.check(chosen.algorithm.bytes)) ?? matmul.heuristics(operands)[0]!
      plan = { matmul, algorithm, choices: [] }
      this.#plans.set(key, plan)
    }
    return { operands, plan }
  }
}

/** What products of any number of rows have in common. */
function productOf({ columns, inner, bias, accumulate }: MatmulShape): string {
  return [columns, inner, bias, accumulate].join(' ')
}
