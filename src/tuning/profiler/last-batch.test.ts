import { expect, it } from 'vitest'
import { makeActivity, makeKernel } from '../../../test/fixtures/gpu-activity.ts'
import { drawLastBatch } from './last-batch.ts'
import type { HostSpan } from './records.ts'

const spans: HostSpan[] = [
  { track: 'batches', name: '1 x 8', startedMs: 110, durationMs: 20 },
  { track: 'batches', name: '1 x 8', startedMs: 150, durationMs: 40 },
  { track: 'requests', name: '1 texts', startedMs: 150, durationMs: 45 },
]

it('draws the last batch alone, where a GPU was recorded', () => {
  const kernels = [
    makeKernel({ name: 'nvjet_qqtst_first', startNs: 11e6, endNs: 29e6 }),
    makeKernel({ name: 'flash_attention_last', startNs: 55e6, endNs: 85e6 }),
  ]
  const svg = drawLastBatch({ gpu: makeActivity({ startedMs: 100, kernels }), spans })
  expect(svg).toMatch(/^<svg /)
  expect(svg).toContain('flash_attention_last')
  expect(svg).not.toContain('nvjet')
  expect(drawLastBatch({ gpu: undefined, spans })).toBeUndefined()
  expect(drawLastBatch({ gpu: makeActivity({ startedMs: 100 }), spans })).toBeUndefined()
  expect(drawLastBatch({ gpu: makeActivity({ kernels }), spans: [] })).toBeUndefined()
})
