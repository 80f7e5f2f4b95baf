/** On layers that TensorRT 10.6 gave for the first block of an FP8 Qwen3 with two profiles on an H100. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { findLinearLayers, parseLayers, summariseLayers } from './inspector.ts'
import { judgePrecision } from './precision-verdict.ts'

const json = readFileSync(new URL('../../../test/fixtures/tensorrt-layers.json', import.meta.url), 'utf8')
const linearNodes = ['MatMul_34', 'MatMul_84', 'MatMul_98', 'MatMul_105']

/** The same engine with one kernel of another precision. */
function replaceTactic(name: string, tactic: string): string {
  const engine = JSON.parse(json) as { Layers: { Name: string; TacticName: string }[] }
  const layer = engine.Layers.find(({ Name }) => Name === name)!
  layer.TacticName = tactic
  return JSON.stringify(engine)
}

describe('the layers of an engine', () => {
  it('are counted: products by precision, fused attention, profiles, kernels', () => {
    const summary = summariseLayers(parseLayers(json))
    expect(summary).toMatchObject({
      layers: 16,
      profiles: 2,
      gemms: 8,
      gemmsByPrecision: { fp8: 8 },
      fusedAttentions: 2,
    })
    expect(summary.tactics[0]).toEqual([
      'sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize128x128x128_warpgroupsize1x1x1',
      4,
    ])
    const attention = parseLayers(json).filter(({ isAttention }) => isAttention)
    expect(attention.map(({ precision, profile }) => [precision, profile])).toEqual([
      ['bf16', 0],
      ['bf16', 1],
    ])
  })

  it('tell of each linear layer: all FP8 here, though attention names MatMul nodes too', () => {
    const layers = parseLayers(json)
    const linear = findLinearLayers(layers, linearNodes)
    expect(linear.map(({ node, precision }) => `${node} ${precision}`)).toEqual([
      'MatMul_34 fp8',
      'MatMul_84 fp8',
      'MatMul_98 fp8',
      'MatMul_105 fp8',
    ])
    expect(judgePrecision('fp8', layers, linear)).toEqual({
      isGood: true,
      text: '4 of 4 linear layers run in fp8',
    })
    expect(judgePrecision('bf16', layers, linear).isGood).toBe(false)
    expect(judgePrecision('auto', layers, linear).isGood).toBe(true)
  })

  it('betray one that fell back, in whichever profile', () => {
    const layers = parseLayers(
      replaceTactic('MatMul_98 [profile 1]_myl1_18', 'sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n'),
    )
    const linear = findLinearLayers(layers, linearNodes)
    expect(linear[2]).toEqual({
      node: 'MatMul_98',
      precision: 'bf16',
      tactic: 'sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n',
    })
    expect(judgePrecision('fp8', layers, linear)).toEqual({
      isGood: false,
      text: '3 of 4 linear layers run in fp8; not MatMul_98 (bf16)',
    })
    // Without the ONNX file every product counts.
    expect(judgePrecision('fp8', layers, [])).toEqual({
      isGood: false,
      text: '7 of 8 matrix products run in fp8; not MatMul_98 [profile 1]_myl1_18 (bf16)',
    })
  })

  it('do not vouch for a node that no layer names, nor for an engine without products', () => {
    const layers = parseLayers(json)
    const linear = findLinearLayers(layers, [...linearNodes, 'MatMul_119'])
    expect(linear.at(-1)).toEqual({ node: 'MatMul_119', precision: 'unknown', tactic: '' })
    expect(judgePrecision('fp8', layers, linear)).toMatchObject({
      isGood: false,
      text: '4 of 5 linear layers run in fp8; not MatMul_119 (unknown)',
    })
    expect(judgePrecision('fp8', [], []).isGood).toBe(false)
  })

  it.each([
    ['sm80_xmma_gemm_f16f16_f16f16_f16_tn_n_tilesize128x128x32', 'fp16'],
    ['sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n', 'fp32'],
    ['sm90_xmma_gemm_i8i8_i8i32_f32_tn_n', 'int8'],
    ['cutlass3x_sm100_tensorop_gemm_e4m3_e4m3_f32', 'fp8'],
  ])('%s computes in %s', (tactic, precision) => {
    const [layer] = parseLayers(
      JSON.stringify({ Layers: [{ Name: 'x', LayerType: 'gemm', TacticName: tactic }] }),
    )
    expect([layer!.isGemm, layer!.precision]).toEqual([true, precision])
  })

  it('may be names alone, or lack what is expected', () => {
    expect(parseLayers('{"Layers": ["a", {"Name": "b", "Inputs": [null, {}]}, {}]}')).toMatchObject([
      { name: 'a', tactic: '', precision: 'unknown', isGemm: false, nodes: [] },
      { name: 'b', precision: 'unknown' },
      { name: '' },
    ])
    for (const text of ['{"Layers": 1}', 'null', 'not JSON']) {
      expect(thrownBy(() => parseLayers(text)).code).toBe('PLAN_UNUSABLE')
    }
  })
})
