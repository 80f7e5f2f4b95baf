import { describe, expect, it } from 'vitest'
import { adviseHost, judgeHost, judgeNodes, type ProfiledEngine } from './host-criteria.ts'
import { type HostProfile, summariseHost } from './host-profile.ts'
import { type NodeProfile, summariseNodes } from './node-summary.ts'

/** A request of 100 ms, its stages in ms, batches of 128 tokens. */
function hostOf(
  stages: { tokenize?: number; queue?: number; engine: number },
  changes: Partial<HostProfile> = {},
): HostProfile {
  const spans = [
    { track: 'requests', name: '', startedMs: 0, durationMs: 100 },
    { track: 'tokenize', name: '', startedMs: 0, durationMs: stages.tokenize ?? 0 },
    { track: 'queue', name: '', startedMs: 0, durationMs: stages.queue ?? 0 },
    { track: 'batches', name: '', startedMs: 0, durationMs: stages.engine },
  ] as const
  const sums = { texts: 1, tokens: 128, paddedTokens: 128, batches: 1, failedRequests: 0, droppedSpans: 0 }
  const recording = { startedMs: 0, endedMs: 100, spans, ...sums, eventLoopUtilisation: 0.1, cpuMs: 100 }
  return { ...summariseHost(recording), ...changes }
}

function nodesOf(
  ...parts: readonly (readonly [operation: string, kernel: string, ns: number])[]
): NodeProfile {
  const times = parts.map(([operation, kernel, durationNs], i) => ({
    name: `node ${i}`,
    operation,
    kernel,
    durationNs,
  }))
  return { ...summariseNodes(times), measuredRatio: 1, overheadRatio: 1 }
}

const bf16: ProfiledEngine = { precision: 'bf16', clients: 4 }
const good = nodesOf(['FullyConnected', 'brgemm_avx512_bf16', 80], ['MVN', 'jit_avx512_f32', 20])
const texts = (...args: Parameters<typeof adviseHost>) =>
  adviseHost(...args).map(({ text, reason }) => `${text} (${reason})`)

describe('the criteria', () => {
  it('are met by a busy engine whose nodes multiply at its precision', () => {
    expect(judgeHost(hostOf({ engine: 95 })).map(({ value, isMet }) => [value, isMet])).toEqual([
      ['95 %', true],
      ['10 %', true],
    ])
    expect(judgeNodes(good, bf16).map(({ value, isMet }) => [value, isMet])).toEqual([
      ['80 %', true],
      ['none', true],
      ['0.0 %', true],
    ])
    expect(texts(hostOf({ engine: 95 }), bf16, good)).toEqual([])
  })

  it('fail each for its reason', () => {
    const slow = hostOf({ engine: 70 }, { eventLoopUtilisation: 0.6, failedRequests: 2 })
    expect(judgeHost(slow).map(({ name, value, isMet }) => [name, value, isMet])).toEqual([
      ['engine utilisation', '70 %', false],
      ['event loop utilisation', '60 %', false],
      ['failed requests', '2', false],
    ])
    const bad = nodesOf(
      ['FullyConnected', 'brgemm_avx512_f32', 10],
      ['FullyConnected', 'brgemm_avx512_bf16', 30],
      ['Reorder', 'jit_uni_bf16', 60],
    )
    expect(judgeNodes(bad, bf16).map(({ value, isMet }) => [value, isMet])).toEqual([
      ['40 %', false],
      ['brgemm_avx512_f32 10.0 %', false],
      ['60.0 %', false],
    ])
  })

  it.each([
    ['fp32', 'CPU float', true],
    ['fp32', 'brgemm_avx512_f32', true],
    ['fp32', 'brgemm_avx512_bf16', false],
    ['bf16', 'brgemm_avx512_amx_bf16', true],
    ['fp16', 'brgemm_avx512_f16', true],
    ['fp16', 'brgemm_avx512_bf16', false],
    ['int8', 'CPU uint8', true],
    ['int8', 'brgemm_avx512_I8', true],
  ])('%s is what %s computes: %s', (precision, kernel, isMet) => {
    const [, precisions] = judgeNodes(nodesOf(['MatMul', kernel, 1]), { precision })
    expect(precisions!.isMet).toBe(isMet)
  })
})

describe('the advice', () => {
  it.each([
    [
      'an event loop that works',
      hostOf({ engine: 95 }, { eventLoopUtilisation: 0.8 }),
      /several texts.*80 %/,
    ],
    ['slow tokenising', hostOf({ tokenize: 40, engine: 90 }), /--tokenizer-workers.*40 %/],
    ['an idle engine', hostOf({ engine: 55 }), /it could take more.*4 requests at once.*45 %/],
    ['a full machine', hostOf({ queue: 60, engine: 99 }), /another replica.*60 %/],
    ['padding', hostOf({ engine: 95 }, { paddingRatio: 0.4 }), /like length.*40 %/],
    ['small batches', hostOf({ engine: 95 }, { tokensPerBatch: 16 }), /several texts a request.*16 tokens/],
  ])('for %s carries its number', (_, host, words) => {
    expect(texts(host, bf16, good)).toEqual([expect.stringMatching(words)])
  })

  it('names nodes: fallen back, changes of layout, fp32', () => {
    const host = hostOf({ engine: 95 })
    const mixed = nodesOf(
      ['FullyConnected', 'brgemm_avx512_f32', 50],
      ['FullyConnected', 'brgemm_avx512_bf16', 30],
      ['Reorder', 'jit_uni_bf16', 20],
    )
    expect(texts(host, bf16, mixed)).toEqual([
      expect.stringMatching(/--precision fp32.*50\.0 %.*brgemm_avx512_f32/),
      expect.stringMatching(/--engine onnx and openvino.*20\.0 %.*node 2/),
    ])
    const fp32 = nodesOf(['MatMul', 'CPU float', 80], ['LayerNormalization', 'CPU float', 20])
    expect(texts(host, { precision: 'fp32', clients: 1 }, fp32)).toEqual([
      expect.stringMatching(/--precision bf16.*80 %/),
    ])
  })

  it('puts what could win most first', () => {
    const host = hostOf({ tokenize: 30, engine: 40 }, { eventLoopUtilisation: 0.9 })
    expect(texts(host, bf16).map((text) => text.slice(0, 12))).toEqual([
      'several text',
      'it could tak',
      'more threads',
    ])
  })
})
