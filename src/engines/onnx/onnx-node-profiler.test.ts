import { expect, it } from 'vitest'
import { parseOnnxProfile } from './onnx-node-profiler.ts'

/** As ONNX Runtime 1.30 writes it, cut down to two runs of two nodes. */
const node = (name: string, dur: number, args: object) => ({
  cat: 'Node',
  pid: 7,
  tid: 7,
  dur,
  ts: 1,
  ph: 'X',
  name: `${name}_kernel_time`,
  args: { provider: 'CPUExecutionProvider', ...args },
})
const run = (dur: number) => ({
  cat: 'Session',
  pid: 7,
  tid: 7,
  dur,
  ts: 1,
  ph: 'X',
  name: 'model_run',
  args: {},
})
const product = { op_name: 'MatMul', input_type_shape: [{ float: [1, 16, 384] }, { float: [384, 384] }] }
const profile = JSON.stringify([
  { ...run(900), name: 'session_initialization' },
  node('layer.0.query', 120, product),
  node('mask', 3, { op_name: 'Cast', input_type_shape: [{ int64: [1, 16] }] }),
  run(140),
  node('layer.0.query', 100, product),
  { ...node('mask', 9, {}), name: 'mask_fence_before' },
  node('mask', 2, { op_name: 'Cast', input_type_shape: [{ int64: [1, 16] }] }),
  run(110),
])

it('gives the nodes of the runs after those left out', () => {
  expect(parseOnnxProfile(profile, 1)).toEqual([
    { name: 'layer.0.query', operation: 'MatMul', kernel: 'CPU float', durationNs: 100_000 },
    { name: 'mask', operation: 'Cast', kernel: 'CPU int64', durationNs: 2000 },
  ])
  expect(parseOnnxProfile(profile, 0).map(({ durationNs }) => durationNs)).toEqual([
    120_000, 3000, 100_000, 2000,
  ])
  expect(parseOnnxProfile(profile, 2)).toEqual([])
})

it('refuses a profile that lacks runs', () => {
  expect(() => parseOnnxProfile(profile, 3)).toThrow(expect.objectContaining({ code: 'FILE_FORMAT' }))
})
