/** The products of a decoder's layer: by cuBLASLt, and for batches of few tokens by a kernel of our own. */
import type { DevicePointer } from '../../hardware/ffi/cuda.ts'
import type { MatmulPrecision } from '../../hardware/gpu/matmul.ts'
import type { GpuStream } from '../../hardware/gpu/stream.ts'
import { toRowOutput } from './forward-pass.ts'
import type { LinearWeights } from './gpu-weights.ts'
import { type FewRowsOptions, fewRows, loadFewRowsProduct } from './kernels/few-rows-product.ts'
import type { KernelLoader } from './kernels/kernel-loader.ts'
import { qwen3FewRows, type TransformerShape } from './kernels/kernel-set.ts'
import { loadSwiglu } from './kernels/swiglu.ts'
import type { LinearCall, LinearInput, LinearLayers } from './linear-layers.ts'

export interface LayerProducts {
  readonly qkv: Product
  readonly dense: Product
  /** SwiGLU of the product. @returns where what the next one reads is: in the room of `call.output`, or in `active` */
  readonly gateUp: (
    stream: GpuStream,
    weights: LinearWeights,
    call: LinearCall & { readonly active: LinearInput },
  ) => LinearInput
  readonly down: Product
}

type Product = (stream: GpuStream, weights: LinearWeights, call: LinearCall) => void

/** For any number of rows. */
export async function loadManyRowsProducts(
  loader: KernelLoader,
  linear: LinearLayers,
  shape: { readonly intermediateSize: number; readonly precision: MatmulPrecision },
): Promise<LayerProducts> {
  const swiglu = await loadSwiglu(loader, { rowSize: shape.intermediateSize, output: shape.precision })
  const launch: Product = (stream, weights, call) => linear.launch(stream, weights, call)
  return {
    qkv: launch,
    dense: launch,
    gateUp: (stream, weights, { active, ...call }) => {
      launch(stream, weights, call)
      swiglu(stream, { rows: call.rows, gateUp: call.output, ...toRowOutput(active) })
      return active
    },
    down: launch,
  }
}

/** For at most `fewRows` rows; undefined where the sizes or the precision are not for it.
 * @param many takes what this does not */
export async function loadFewRowsProducts(
  loader: KernelLoader,
  many: LayerProducts,
  shape: TransformerShape & { readonly precision: MatmulPrecision },
): Promise<LayerProducts | undefined> {
  const { precision } = shape
  if (precision === 'bf16') return undefined
  const options = qwen3FewRows(shape, precision)
  if (options === undefined) return undefined
  const load = async (of: FewRowsOptions, other: Product): Promise<Product> => {
    const product = await loadFewRowsProduct(loader, of)
    return (stream, weights, call) => {
      if (weights.bias === undefined) product(stream, { ...toArguments(weights, call), output: call.output })
      else other(stream, weights, call)
    }
  }
  const gateUp = await loadFewRowsProduct(loader, options.gateUp)
  const swiglu = await loadSwiglu(loader, { rowSize: shape.intermediateSize, output: precision })
  return {
    qkv: await load(options.qkv, many.qkv),
    dense: await load(options.dense, many.dense),
    gateUp: (stream, weights, { active, ...call }) => {
      const args = { ...toArguments(weights, call), output: call.output }
      if (options.gateUp.output === 'swiglu') {
        gateUp(stream, { ...args, outputScale: active.scale! })
        // Not where the others put it: there is what this one reads.
        return { ...active, values: call.output }
      }
      gateUp(stream, args)
      swiglu(stream, { rows: fewRows, gateUp: call.output, ...toRowOutput(active) })
      return active
    },
    down: await load(options.down, many.down),
  }
}

function toArguments(
  weights: LinearWeights,
  { input }: LinearCall,
): Record<'input' | 'inputScale' | 'weights' | 'weightScale', DevicePointer> {
  return {
    input: input.values,
    inputScale: input.scale!,
    weights: weights.values,
    weightScale: weights.scale!,
  }
}
