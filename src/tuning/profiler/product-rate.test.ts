import { expect, it } from 'vitest'
import { formatProductRate, rateModelProducts, rateProducts } from './product-rate.ts'

const row = (kernelClass: 'FP8 GEMM' | 'BF16 GEMM' | 'attention', totalNs: number) => ({
  kernelClass,
  totalNs,
  instances: 1,
  share: 0,
})
/** 10 ms of products in all. */
const classes = [row('FP8 GEMM', 9e6), row('BF16 GEMM', 1e6), row('attention', 5e6)]
const peak = { flops: 1000e12, memoryBytesPerSecond: 2000e9 }

it('large batches are bound by compute', () => {
  const work = { linearWeights: 1e9, bytesPerWeight: 1, tokens: 4000, batches: 1 }
  // 8 TFLOP in 10 ms; the device could in 8 ms.
  const rate = rateProducts(classes, work, peak)!
  expect(rate.tflops).toBeCloseTo(800)
  expect(rate.weightGbPerSecond).toBeCloseTo(100)
  expect(rate.roofline).toEqual({ boundBy: 'compute', ratio: expect.closeTo(0.8) })
  expect(formatProductRate(rate)).toBe(
    "products: 800 TFLOPS, weights read at 100 GB/s: 80 % of the device's compute limit",
  )
})

it('small ones by reading the weights', () => {
  const work = { linearWeights: 1e9, bytesPerWeight: 2, tokens: 160, batches: 5 }
  // 5 x 2 GB in 10 ms; the device could in 5 ms.
  expect(rateProducts(classes, work, peak)!.roofline).toEqual({
    boundBy: 'memory',
    ratio: expect.closeTo(0.5),
  })
})

it('without a peak there is no limit, without products no rate', () => {
  const work = { linearWeights: 1e6, bytesPerWeight: 1, tokens: 1, batches: 1 }
  expect(formatProductRate(rateProducts(classes, work)!)).toBe('products: 0.0 TFLOPS, weights read at 0 GB/s')
  expect(rateProducts([row('attention', 1e6)], work, peak)).toBeUndefined()
})

it("of a model by its shape, beside the peak of the engine's precision", () => {
  const shape = {
    family: 'bert',
    hiddenSize: 100,
    layerCount: 10,
    headCount: 10,
    keyValueHeadCount: 10,
    headSize: 10,
    intermediateSize: 400,
  } as const
  // 10 x (4 x 100² + 2 x 100 x 400) = 1.2 million weights.
  const run = { shape, tokens: 1e6, batches: 1 }
  const machine = {
    device: 'GPU',
    isGpu: true,
    flopsByPrecision: { fp8: 1000e12, bf16: 500e12 },
    memoryBytesPerSecond: 1e15,
    source: 'measured',
  } as const
  // 2.4 TFLOP in 10 ms.
  for (const [precision, ratio] of [
    ['fp8', 0.24],
    ['fp8-rowwise', 0.24],
    ['int8', 0.24],
    ['bf16', 0.48],
    ['fp16', 0.48],
  ] as const) {
    const { tflops, roofline } = rateModelProducts(classes, { ...run, precision }, machine)!
    expect(tflops).toBeCloseTo(240)
    expect(roofline, precision).toEqual({ boundBy: 'compute', ratio: expect.closeTo(ratio) })
  }
  expect(rateModelProducts(classes, { ...run, precision: 'fp32' }, machine)!.roofline).toBeUndefined()
  expect(rateModelProducts(classes, { ...run, precision: 'fp8' })!.roofline).toBeUndefined()
})
