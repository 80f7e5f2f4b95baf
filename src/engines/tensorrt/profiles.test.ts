import { describe, expect, it } from 'vitest'
import { thrownBy } from '../../../test/fakes/failure.ts'
import { loadConfig } from '../../config/load.ts'
import { toPlanSettings } from './plan-settings.ts'
import { describeProfile, toProfiles } from './profiles.ts'

describe('profiles', () => {
  it('are each name by each length, a length reaching down to the one below', () => {
    const profiles = toProfiles('low_latency=1/1/2, balanced=2/4/8', '512,64,128', 512)
    expect(profiles.map(describeProfile)).toEqual([
      'low_latency 1/1/2 x 1..64',
      'low_latency 1/1/2 x 65..128',
      'low_latency 1/1/2 x 129..512',
      'balanced 2/4/8 x 1..64',
      'balanced 2/4/8 x 65..128',
      'balanced 2/4/8 x 129..512',
    ])
    expect(profiles[5]).toEqual({
      name: 'balanced',
      minBatch: 2,
      optBatch: 4,
      maxBatch: 8,
      minTokens: 129,
      optTokens: 512,
      maxTokens: 512,
    })
  })

  it("are cut to the model's length, once", () => {
    const lengths = toProfiles('a=1/1/1', '64,256,512,8192', 256).map(({ maxTokens }) => maxTokens)
    expect(lengths).toEqual([64, 256])
  })

  it.each([
    ['low=1/2', '512', "profiles holds 'low=1/2'; write name=min/opt/max"],
    ['low=2/1/4', '512', 'opt at least min'],
    ['low=0/1/4', '512', 'min is at least 1'],
    ['low=1/4/2', '512', 'max at least opt'],
    ['low=1/1/1,low=1/1/2', '512', 'the name low stands there twice'],
    ['', '512', "profiles holds ''"],
    ['low=1/1/1', '0', "profileTokens holds '0'"],
    ['low=1/1/1', '12.5', "profileTokens holds '12.5'"],
    ['low=1/1/1', '64,,128', "profileTokens holds ''"],
  ])('refuse %s x %s', (profiles, tokens, words) => {
    const error = thrownBy(() => toProfiles(profiles, tokens, 512))
    expect([error.code, error.message]).toEqual(['CONFIG_INVALID', expect.stringContaining(words)])
  })
})

const files = { config: '', tokenizer: '', weights: ['model.safetensors'], onnx: undefined }
const spec = { maxTokens: 256, family: 'bert', files } as const

const settingsOf = (flags: Record<string, unknown>) => toPlanSettings(loadConfig({ flags }), spec)

describe('settings of a plan', () => {
  it('follow the knobs; by default one bf16 engine of three profiles at level 3 with 4 GiB', () => {
    expect(settingsOf({})).toMatchObject({
      precision: 'bf16',
      inputs: 'ids',
      output: 'pooled',
      enginePerProfile: false,
      tacticSources: 'default',
      workspaceBytes: 4 * 2 ** 30,
      builderOptimizationLevel: 3,
    })
    expect(settingsOf({}).profiles.map(describeProfile)).toEqual([
      'low_latency 1/1/2 x 1..256',
      'balanced 2/4/8 x 1..256',
      'high_throughput 8/16/32 x 1..256',
    ])
    const own = {
      precision: 'fp8',
      embeddingTable: 'host',
      tacticSources: 'cudnn, CUBLAS',
      workspaceBytes: 2 ** 29,
    }
    expect(settingsOf(own)).toMatchObject({
      precision: 'fp8',
      inputs: 'embeddings',
      // In TensorRT's order: the order of the knob makes no other engine.
      tacticSources: ['CUBLAS', 'CUDNN'],
      workspaceBytes: 2 ** 29,
    })
  })

  it('are fp32 by default for an ONNX file of the user', () => {
    const own = { ...spec, files: { ...files, weights: [], onnx: 'model.onnx' } }
    expect(toPlanSettings(loadConfig(), own).precision).toBe('fp32')
  })

  it("refuse a precision that is not TensorRT's", () => {
    expect(thrownBy(() => settingsOf({ precision: 'fp8-rowwise' })).message).toContain(
      'precision is fp8-rowwise; TensorRT takes fp32, bf16, fp16, fp8',
    )
  })

  it('refuse a tactic source that there is not', () => {
    expect(thrownBy(() => settingsOf({ tacticSources: 'CUBLAS,CUTLASS' })).message).toContain(
      "tacticSources holds 'CUTLASS'; it takes default, or a list of CUBLAS, CUBLAS_LT, CUDNN",
    )
  })
})
