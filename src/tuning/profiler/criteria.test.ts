import { describe, expect, it } from 'vitest'
import { makeActivity, makeKernel, makeMemcpy } from '../../../test/fixtures/gpu-activity.ts'
import type { KernelRecord, MemcpyRecord } from '../../hardware/gpu/activity.ts'
import { adviseGpu } from './advice.ts'
import { judgeGpu } from './criteria.ts'
import { type GpuProfile, summariseGpu } from './gpu-profile.ts'

const fp8 = 'nvjet_qqtst_128x256'
const bf16 = 'nvjet_tst_128x256'

/** Kernels one after the other, each `us` long with `pauseUs` after it. */
function profileOf(
  parts: readonly (readonly [name: string, us: number, pauseUs?: number])[],
  options: { graph?: boolean; memcpys?: readonly MemcpyRecord[]; droppedRecords?: number } = {},
): GpuProfile {
  const kernels: KernelRecord[] = []
  let ns = 0
  for (const [name, us, pauseUs = 0] of parts) {
    const graph = options.graph === true ? { graph: { id: 1, nodeId: 1 } } : {}
    kernels.push(makeKernel({ name, startNs: ns, endNs: ns + us * 1e3, ...graph }))
    ns += (us + pauseUs) * 1e3
  }
  const { memcpys = [], droppedRecords = 0 } = options
  return summariseGpu(makeActivity({ kernels, memcpys, droppedRecords }))
}

const workload = { precision: 'fp8', tokensPerBatch: 4096 }
const failed = (profile: GpuProfile, of = workload) =>
  judgeGpu(profile, of).flatMap(({ name, isMet, value }) => (isMet ? [] : [`${name}: ${value}`]))
const advice = (profile: GpuProfile, of: Parameters<typeof adviseGpu>[1] = workload) =>
  adviseGpu(profile, of).map(({ text, reason }) => `${text} (${reason})`)

describe('the criteria', () => {
  it('are met by a busy GPU that multiplies in FP8', () => {
    const profile = profileOf([
      [fp8, 70],
      ['flash_attention', 20],
      ['residual_rmsnorm', 10],
    ])
    const criteria = judgeGpu(profile, workload)
    expect(criteria.map(({ name, value, target, isMet }) => [name, value, target, isMet])).toEqual([
      ['GPU utilisation', '100 %', '> 80 %', true],
      ["FP8 GEMM, of the kernels' time", '70 %', '> 50 %', true],
      ['products of another precision', 'none', '<= 1 %', true],
      ['copies, of the busy time', '0.00 %', '< 5 %', true],
    ])
  })

  it('fail each for its reason', () => {
    expect(
      failed(
        profileOf([
          [fp8, 80, 20],
          [fp8, 80, 20],
          [fp8, 80],
        ]),
      ),
    ).toEqual([])
    expect(
      failed(
        profileOf([
          [fp8, 60, 40],
          [fp8, 60],
        ]),
      ),
    ).toEqual(['GPU utilisation: 75 %'])
    expect(
      failed(
        profileOf([
          [fp8, 40],
          ['flash_attention', 60],
        ]),
      ),
    ).toEqual(["FP8 GEMM, of the kernels' time: 40 %"])
    expect(
      failed(
        profileOf([
          [fp8, 90],
          [bf16, 10],
        ]),
      ),
    ).toEqual(['products of another precision: BF16 GEMM 10.0 %'])
    const memcpys = [makeMemcpy({ startNs: 95_000, endNs: 105_000 })]
    expect(failed(profileOf([[fp8, 95]], { memcpys }))).toEqual(['copies, of the busy time: 9.52 %'])
    expect(failed(profileOf([[fp8, 95]], { droppedRecords: 7 }))).toEqual(['records lost: 7'])
  })

  it('do not judge products where no precision was asked for, and know each that can be', () => {
    expect(failed(profileOf([[bf16, 10]]), { precision: 'auto', tokensPerBatch: 1 })).toEqual([])
    for (const [precision, name] of [
      ['fp8-rowwise', fp8],
      ['bf16', bf16],
      ['fp16', 'nvjet_hsh_1'],
      ['int8', 'sm80_xmma_gemm_i8i8_i8i32_f32_tn_n'],
      ['fp32', 'sm80_xmma_gemm_f32f32_f32f32_f32_nn_n'],
    ] as const)
      expect(failed(profileOf([[name, 10]]), { precision, tokensPerBatch: 1 })).toEqual([])
  })
})

describe('the advice', () => {
  it('for pauses between kernels: graphs, or larger batches where there are graphs', () => {
    const kernels = Array.from({ length: 10 }, () => [fp8, 5, 4] as const)
    expect(advice(profileOf(kernels))).toEqual([
      'record CUDA graphs: --cuda-graphs 32 (pauses between kernels are 42 % of the time, half of them over 4.0 us; 0 % of the kernels are in CUDA graphs)',
    ])
    expect(advice(profileOf(kernels, { graph: true }))[0]).toMatch(/^larger batches: .*100 % of the kernels/)
  })

  it('for a GPU that waits for the host: more work at once', () => {
    expect(
      advice(
        profileOf([
          [fp8, 100, 1],
          [fp8, 100, 200],
          [fp8, 100],
        ]),
      ),
    ).toEqual([
      'more requests at once, more batches under way (--streams), or larger ones (the GPU waits for the host 40 % of the time, up to 200.0 us at once, most of it at nvjet_qqtst_128x256 -> nvjet_qqtst_128x256)',
    ])
  })

  it('for copies: pinned memory, or overlap where they are pinned', () => {
    const memcpy = { startNs: 100_000, endNs: 120_000 }
    const pageable = [makeMemcpy({ ...memcpy, source: 'pageable' })]
    expect(advice(profileOf([[fp8, 100]], { memcpys: pageable }))).toEqual([
      'copy from pinned memory: pageable memory is copied twice (copies take 16.7 % of the busy time, 16.7 % are of pageable memory)',
    ])
    expect(advice(profileOf([[fp8, 100]], { memcpys: [makeMemcpy(memcpy)] }))[0]).toMatch(
      /^let copies run beside/,
    )
  })

  it('for small batches: batching', () => {
    const [first] = advice(profileOf([[fp8, 100]]), { precision: 'fp8', tokensPerBatch: 16 })
    expect(first).toMatch(/^batch more: .*a batch has 16 tokens, and 100 % of the kernels' time are products/)
  })

  it('for products that fell back, and for 16 bits where 8 would do', () => {
    expect(
      advice(
        profileOf([
          [fp8, 90],
          [bf16, 10],
        ]),
      ),
    ).toEqual([
      "see which layers fell back: 'akidb-embedding verify-precision' lists them (BF16 GEMM 10.0 % of the kernels' time where FP8 GEMM was asked for)",
    ])
    const bf16Workload = { precision: 'bf16', tokensPerBatch: 4096 }
    expect(advice(profileOf([[bf16, 90]]), bf16Workload)[0]).toMatch(/--precision fp8 \(products of 16 bits/)
  })

  it('for small kernels: static scales where they are row-wise', () => {
    const profile = profileOf([
      [fp8, 60],
      ['quantize_rows', 30],
      ['residual_rmsnorm', 10],
    ])
    expect(advice(profile)[0]).toMatch(
      /^compare --engine tensorrt and cuda.*40 % of the kernels' time in 2 launches/,
    )
    expect(advice(profile, { ...workload, precision: 'fp8-rowwise' })[0]).toMatch(
      /^--precision fp8: one scale/,
    )
  })

  it('names the largest kernel where nothing stands out, and nothing of nothing', () => {
    expect(
      advice(
        profileOf([
          [fp8, 80],
          ['flash_attention', 20],
        ]),
      ),
    ).toEqual([
      `nothing stands out: the rest is in the kernels themselves (${fp8} takes 80 % of the kernels' time)`,
    ])
    expect(advice(profileOf([]))).toEqual([])
  })

  it('puts first what could win most', () => {
    const memcpys = [makeMemcpy({ startNs: 100_000, endNs: 110_000 })]
    const profile = profileOf(
      [
        [fp8, 50, 1],
        [bf16, 50],
      ],
      { memcpys, droppedRecords: 1 },
    )
    expect(advice(profile).map((each) => each.slice(0, 12))).toEqual([
      'profile fewe',
      'see which la',
      'let copies r',
    ])
  })
})
