import { describe, expect, it } from 'vitest'
import { measureMemoryPeak } from '../../hardware/machine/memory-peak.ts'
import { measureCpuPeak } from './cpu-peak.ts'
import { type ModelShape, countLinearWeights, countTextFlops } from './model-work.ts'
import { type MachinePeak, computeSpeedOfLight, jetsonThor, toReach } from './speed-of-light.ts'

const qwen4b: ModelShape = {
  family: 'qwen3',
  hiddenSize: 2560,
  layerCount: 36,
  headCount: 32,
  keyValueHeadCount: 8,
  headSize: 128,
  intermediateSize: 9728,
}
const miniLm: ModelShape = {
  family: 'bert',
  hiddenSize: 384,
  layerCount: 6,
  headCount: 12,
  keyValueHeadCount: 12,
  headSize: 32,
  intermediateSize: 1536,
}

describe('the work of a model', () => {
  it('counts the linear layers of Qwen3-Embedding-4B and of MiniLM', () => {
    // Its weights take 3.63 GB at FP8 (safetensors of the published model, without the vocabulary).
    expect(countLinearWeights(qwen4b)).toBe(36 * (2560 * 6144 + 4096 * 2560 + 3 * 2560 * 9728))
    expect(countLinearWeights(qwen4b) / 1e9).toBeCloseTo(3.63, 2)
    expect(countLinearWeights(miniLm)).toBe(6 * (4 * 384 * 384 + 2 * 384 * 1536))
  })

  it('counts a text: 3.8 TFLOP for 512 tokens of the 4B model', () => {
    expect(countTextFlops(qwen4b, 512) / 1e12).toBeCloseTo(3.8, 1)
    // Twice the length is more than twice the work: attention.
    expect(countTextFlops(miniLm, 256)).toBeGreaterThan(2 * countTextFlops(miniLm, 128))
  })
})

describe('the speed of light', () => {
  const peak: MachinePeak = {
    device: 'fake',
    isGpu: true,
    flopsByPrecision: { bf16: 1e15, fp8: 2e15 },
    memoryBytesPerSecond: 1e12,
    source: 'measured',
  }

  it('is the arithmetic of a long text, the weights of a short one, the arithmetic alone of many', () => {
    const long = computeSpeedOfLight({ shape: qwen4b, textTokens: [8192], peak })!
    expect(long.precision).toBe('fp8')
    expect(long.p95Ms).toBeCloseTo((1000 * countTextFlops(qwen4b, 8192)) / 2e15, 6)
    const short = computeSpeedOfLight({ shape: qwen4b, textTokens: [4], peak })!
    expect(short.p95Ms).toBeCloseTo(3.63, 2)
    expect(short.textsPerSecondAlone).toBeCloseTo(1000 / short.p95Ms, 6)
    expect(short.textsPerSecond).toBeCloseTo(2e15 / countTextFlops(qwen4b, 4), 3)
  })

  it('takes percentiles over the lengths', () => {
    const textTokens = Array.from({ length: 100 }, (_, i) => 512 + i)
    const { p50Ms, p95Ms, p99Ms } = computeSpeedOfLight({ shape: qwen4b, textTokens, peak })!
    const ms = (tokens: number): number =>
      Math.max((1000 * countTextFlops(qwen4b, tokens)) / 2e15, (1000 * countLinearWeights(qwen4b)) / 1e12)
    expect([p50Ms, p95Ms, p99Ms]).toEqual([561, 606, 610].map(ms))
  })

  it("computes Thor's: 13.3 ms a pass, 150 texts/s of 512 tokens are beyond it, of 128 are not", () => {
    const of = (tokens: number) =>
      computeSpeedOfLight({ shape: qwen4b, textTokens: [tokens], peak: jetsonThor })!
    expect(of(16).p95Ms).toBeCloseTo(13.3, 1)
    expect(of(512).textsPerSecond).toBeLessThan(150)
    expect(of(128).textsPerSecond).toBeGreaterThan(150)
  })

  it('judges', () => {
    expect([0.1, 0.5, 0.51, 1, 1.01].map(toReach)).toEqual([
      'reachable',
      'reachable',
      'doubtful',
      'doubtful',
      'impossible',
    ])
  })
})

describe("this machine's peak", () => {
  it('is measured: the engine multiplies, the memory copies', async () => {
    const { fp32 } = await measureCpuPeak({ threads: 1, durationMs: 50, openvino: { folders: [] } })
    // From a small core of 2012 to the largest of today.
    expect(fp32).toBeGreaterThan(1e9)
    expect(fp32).toBeLessThan(1e13)
    const copied = await measureMemoryPeak({ threads: 2, bytes: 8 << 20, durationMs: 50 })
    expect(copied).toBeGreaterThan(1e8)
    expect(copied).toBeLessThan(1e12)
  })
})
