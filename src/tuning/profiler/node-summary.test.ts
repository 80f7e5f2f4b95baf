import { describe, expect, it } from 'vitest'
import { classifyNode, summariseNodes } from './node-summary.ts'

describe('classifyNode', () => {
  // As OpenVINO's CPU plugin and ONNX Runtime name them.
  it.each([
    ['FullyConnected', 'product'],
    ['MatMul', 'product'],
    ['FusedMatMul', 'product'],
    ['MatMulIntegerToFloat', 'product'],
    ['DynamicQuantizeMatMul', 'product'],
    ['Convolution', 'product'],
    ['Subgraph', 'attention'],
    ['ScaledDotProductAttention', 'attention'],
    ['Softmax', 'attention'],
    ['MVN', 'norm'],
    ['LayerNormalization', 'norm'],
    ['SkipLayerNormalization', 'norm'],
    ['RMS', 'norm'],
    ['Reorder', 'layout'],
    ['Convert', 'layout'],
    ['Transpose', 'layout'],
    ['ShapeOf', 'layout'],
    ['MulAdd', 'elementwise'],
    ['BiasGelu', 'elementwise'],
    ['Add', 'elementwise'],
    ['NonZero', 'other'],
  ])('%s is %s', (operation, expected) => {
    expect(classifyNode(operation)).toBe(expected)
  })
})

it('sums up nodes by kernel, by name and by class', () => {
  const product = { operation: 'FullyConnected', kernel: 'brgemm_avx512_bf16' }
  const reorder = { operation: 'Reorder', kernel: 'jit_uni_bf16' }
  const { operations, nodes, classes } = summariseNodes([
    { ...product, name: 'layer.0.up', durationNs: 500_000 },
    { ...product, name: 'layer.0.down', durationNs: 300_000 },
    { ...reorder, name: 'to bf16', durationNs: 100_000 },
    { ...product, name: 'layer.0.up', durationNs: 100_000 },
  ])
  expect(operations).toEqual([
    expect.objectContaining({
      name: 'FullyConnected brgemm_avx512_bf16',
      ...product,
      instances: 3,
      totalNs: 900_000,
      timePercent: 90,
      medNs: 300_000,
    }),
    expect.objectContaining({ ...reorder, instances: 1, timePercent: 10 }),
  ])
  expect(nodes.map(({ name, instances, avgNs }) => [name, instances, avgNs])).toEqual([
    ['layer.0.up', 2, 300_000],
    ['layer.0.down', 1, 300_000],
    ['to bf16', 1, 100_000],
  ])
  expect(classes).toEqual([
    { nodeClass: 'product', totalNs: 900_000, instances: 3, share: 0.9 },
    { nodeClass: 'layout', totalNs: 100_000, instances: 1, share: 0.1 },
  ])
})

it('of nothing is empty', () => {
  expect(summariseNodes([])).toEqual({ operations: [], nodes: [], classes: [] })
})
