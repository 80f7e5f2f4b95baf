/** How fast the products with the weights ran, beside what the device can do: the roofline. */
import { countLinearWeights, type ModelShape } from '../limits/model-work.ts'
import { type MachinePeak, type PeakPrecision, weightBytesByPrecision } from '../limits/speed-of-light.ts'
import type { KernelClassRow } from './kernel-classes.ts'

export interface ProductWork {
  /** Numbers in the linear layers. */
  readonly linearWeights: number
  readonly bytesPerWeight: number
  /** Of all batches recorded. */
  readonly tokens: number
  readonly batches: number
}

export interface DevicePeak {
  /** At the products' precision. */
  readonly flops: number
  readonly memoryBytesPerSecond: number
}

export interface ProductRate {
  /** Two operations a weight and token, by the time of the product kernels. */
  readonly tflops: number
  /** Weights read, each once a batch, by the same time: what counts for small batches. */
  readonly weightGbPerSecond: number
  /** Undefined where no peak is known. */
  readonly roofline:
    | {
        readonly boundBy: 'compute' | 'memory'
        /** The least time that the bound allows by the time it took: 1 is the device's limit. */
        readonly ratio: number
      }
    | undefined
}

/** Undefined where no product was recorded. @param classes of the same recording as `work` */
export function rateProducts(
  classes: readonly KernelClassRow[],
  { linearWeights, bytesPerWeight, tokens, batches }: ProductWork,
  peak?: DevicePeak,
): ProductRate | undefined {
  const seconds =
    classes
      .filter(({ kernelClass }) => kernelClass.includes('GEMM'))
      .reduce((sum, { totalNs }) => sum + totalNs, 0) / 1e9
  if (seconds === 0) return undefined
  const [flops, bytes] = [2 * linearWeights * tokens, linearWeights * bytesPerWeight * batches]
  return {
    tflops: flops / seconds / 1e12,
    weightGbPerSecond: bytes / seconds / 1e9,
    roofline:
      peak === undefined
        ? undefined
        : toRoofline(seconds, flops / peak.flops, bytes / peak.memoryBytesPerSecond),
  }
}

/** rateProducts for a model. @param precision of the engine @param peak of the GPU it ran on */
export function rateModelProducts(
  classes: readonly KernelClassRow[],
  run: {
    readonly shape: ModelShape
    readonly precision: string
    readonly tokens: number
    readonly batches: number
  },
  peak?: MachinePeak,
): ProductRate | undefined {
  const { shape, precision, tokens, batches } = run
  const kind = peakPrecisionOf(precision)
  const work = {
    linearWeights: countLinearWeights(shape),
    bytesPerWeight: weightBytesByPrecision[kind],
    tokens,
    batches,
  }
  const flops = peak?.flopsByPrecision[kind]
  if (peak === undefined || flops === undefined) return rateProducts(classes, work)
  return rateProducts(classes, work, { flops, memoryBytesPerSecond: peak.memoryBytesPerSecond })
}

/** Tensor cores multiply fp16 as fast as bf16, int8 as fast as fp8. */
function peakPrecisionOf(precision: string): PeakPrecision {
  if (precision === 'fp8' || precision === 'fp8-rowwise' || precision === 'int8') return 'fp8'
  return precision === 'bf16' || precision === 'fp16' ? 'bf16' : 'fp32'
}

function toRoofline(seconds: number, computeSeconds: number, memorySeconds: number): ProductRate['roofline'] {
  return computeSeconds > memorySeconds
    ? { boundBy: 'compute', ratio: computeSeconds / seconds }
    : { boundBy: 'memory', ratio: memorySeconds / seconds }
}

/** 'products: 1210 TFLOPS, 78 % of the device's compute limit' */
export function formatProductRate({ tflops, weightGbPerSecond, roofline }: ProductRate): string {
  const rates = `products: ${tflops.toFixed(tflops < 10 ? 1 : 0)} TFLOPS, weights read at ${weightGbPerSecond.toFixed(0)} GB/s`
  if (roofline === undefined) return rates
  return `${rates}: ${(100 * roofline.ratio).toFixed(0)} % of the device's ${roofline.boundBy} limit`
}
