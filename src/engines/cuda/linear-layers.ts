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

/** Beyond it tiles of another size are faster. */
const farthestRatio = 2

/** Of `others` the number of rows nearest to `rows` by its ratio, the larger of two; undefined where all are far. */
export function nearestRows(rows: number, others: readonly number[]): number | undefined {
  const ratioTo = (other: number) => Math.max(rows / other, other / rows)
  return others
    .filter((other) => ratioTo(other) <= farthestRatio)
    .toSorted((a, b) => ratioTo(a) - ratioTo(b) || b - a)[0]
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
  readonly #nearest: boolean
  readonly #plans = new Map<string, ProductPlan>()

  /** @param options.nearest whether rows that were not searched for take the algorithm of the nearest that were. Default true. */
  constructor(
    library: MatmulLibrary,
    precision: MatmulPrecision,
    { nearest = true }: { readonly nearest?: boolean | undefined } = {},
  ) {
    this.#library = library
    this.#precision = precision
    this.#nearest = nearest
  }

  /** Enqueues input · weightsᵀ (+ bias). A shape met for the first time takes what was found for one of nearly as many rows,
   * else cuBLASLt's first choice.
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
    return plan
  }

  #planFor(weights: LinearWeights, call: LinearCall): { operands: MatmulOperands; plan: ProductPlan } {
    const { input, output, accumulate = false, withBias = weights.bias !== undefined } = call
    const shape = {
      precision: this.#precision,
      rows: roundRows(call.rows),
      columns: weights.columns,
      inner: weights.inner,
      bias: withBias,
      accumulate,
    }
    const operands = {
      a: input.values,
      b: weights.values,
      d: output,
      ...(input.scale === undefined ? {} : { aScale: input.scale }),
      ...(weights.scale === undefined ? {} : { bScale: weights.scale }),
      ...(withBias ? { bias: weights.bias! } : {}),
    }
    const key = JSON.stringify(shape)
    let plan = this.#plans.get(key)
    if (plan === undefined) {
      const matmul = new Matmul(this.#library, shape)
      const [firstChoice] = matmul.heuristics(operands)
      plan = { matmul, algorithm: this.#findNearest(matmul) ?? firstChoice!, choices: [] }
      this.#plans.set(key, plan)
    }
    return { operands, plan }
  }

  /** What was found for another number of rows of the same product, where it can run this. */
  #findNearest(matmul: Matmul): MatmulAlgorithm | undefined {
    if (!this.#nearest) return undefined
    const searched = [...this.#plans.values()].filter(
      ({ choices, matmul: { shape } }) => choices.length > 0 && productOf(shape) === productOf(matmul.shape),
    )
    const rows = nearestRows(
      matmul.shape.rows,
      searched.map(({ matmul: { shape } }) => shape.rows),
    )
    const plan = searched.find(({ matmul: { shape } }) => shape.rows === rows)
    return plan && matmul.check(plan.algorithm.bytes)
  }
}

/** What products of any number of rows have in common. */
function productOf({ columns, inner, bias, accumulate }: MatmulShape): string {
  return [columns, inner, bias, accumulate].join(' ')
}
