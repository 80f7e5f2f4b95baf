import { describe, expect, it } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { makeActivity, makeKernel } from '../../../test/fixtures/gpu-activity.ts'
import type { PackedBatch } from '../../engines/engine.ts'
import type { KernelRecord } from '../../hardware/gpu/activity.ts'
import type { RecordingOptions } from '../../hardware/gpu/activity-session.ts'
import { recordEngine } from './record-engine.ts'

const batch = (...lengths: readonly number[]): PackedBatch => ({
  inputIds: new Int32Array(lengths.reduce((sum, length) => sum + length, 0)),
  cumulativeLengths: Int32Array.of(
    0,
    ...lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b)),
  ),
})

/** An engine whose batch is one kernel, named after its number, and a recorder that sees it. */
class RecordedEngine {
  readonly kernels: KernelRecord[] = []
  readonly log: string[] = []
  options: RecordingOptions | undefined
  #startedMs = 0
  #batches = 0

  async embed({ inputIds }: PackedBatch, { signal }: { signal?: AbortSignal } = {}) {
    signal?.throwIfAborted()
    const name = `batch ${this.#batches++} of ${inputIds.length}`
    this.log.push(name)
    const startNs = (performance.now() - this.#startedMs) * 1e6
    await new Promise((resolve) => setTimeout(resolve, 3))
    if (this.options !== undefined) this.kernels.push(makeKernel({ name, startNs, endNs: startNs + 2e6 }))
    return {} as never
  }

  async start(options: RecordingOptions) {
    this.log.push('start')
    this.options = options
    this.#startedMs = performance.now()
  }

  async stop() {
    this.log.push('stop')
    return makeActivity({ startedMs: this.#startedMs, kernels: this.kernels })
  }
}

describe('a recorded engine', () => {
  it('runs warm, and the records are those of the iterations alone', async () => {
    const fake = new RecordedEngine()
    const workload = { batches: [batch(16), batch(5, 7)], iterations: 4, warmUps: 2, apiCalls: true }
    const { activity, window, spans, tokensPerBatch } = await recordEngine(fake, fake, workload)
    expect(fake.log).toEqual([
      'batch 0 of 16',
      'batch 1 of 12',
      'start',
      'batch 2 of 16',
      'batch 3 of 16',
      'batch 4 of 12',
      'batch 5 of 16',
      'batch 6 of 12',
      'stop',
    ])
    expect(fake.options).toEqual({ apiCalls: true })
    expect(activity.kernels.map(({ name }) => name)).toEqual(fake.log.slice(4, 8))
    expect(spans.map(({ name, details }) => [name, details!['tokens']])).toEqual([
      ['1 x 16 tokens', 16],
      ['2 x 6 tokens', 12],
      ['1 x 16 tokens', 16],
      ['2 x 6 tokens', 12],
    ])
    expect(tokensPerBatch).toBe(14)
    expect(window.startNs).toBeLessThan(activity.kernels[0]!.startNs)
    expect(window.endNs).toBeGreaterThan(activity.kernels.at(-1)!.endNs)
  })

  it('is left recording nothing when a batch fails', async () => {
    const fake = new RecordedEngine()
    const abort = new AbortController()
    const running = recordEngine(fake, fake, {
      batches: [batch(1)],
      iterations: 1000,
      warmUps: 0,
      signal: abort.signal,
    })
    setTimeout(() => abort.abort(), 20)
    await expect(running).rejects.toThrow(/abort/i)
    expect(fake.log.at(-1)).toBe('stop')
  })

  it('refuses an empty workload before anything runs', async () => {
    const fake = new RecordedEngine()
    for (const workload of [
      { batches: [], iterations: 5 },
      { batches: [batch(1)], iterations: 0 },
    ])
      expect(await failureOf(recordEngine(fake, fake, workload))).toMatchObject({ code: 'WORKLOAD_INVALID' })
    expect(fake.log).toEqual([])
  })
})
