import { expect, it } from 'vitest'
import { loadConfig } from './load.ts'
import { makesSamePipeline } from './pipeline-config.ts'

it('tells what a new pipeline is needed for', () => {
  const current = loadConfig({ flags: { model: 'a', apiKey: 'old' } })
  const isSame = (flags: object) =>
    makesSamePipeline(current, loadConfig({ flags: { model: 'a', ...flags } }))
  expect(isSame({ apiKey: 'new', maxInputs: 5, truncation: 'none', servedModelName: 'b' })).toBe(true)
  expect([{ model: 'b' }, { maxBatchSize: 5 }, { requestTimeoutMs: 5 }].map(isSame)).toEqual([
    false,
    false,
    false,
  ])
})
