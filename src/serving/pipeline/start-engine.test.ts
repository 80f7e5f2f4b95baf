import { describe, expect, it } from 'vitest'
import type { CpuFeature } from '../../hardware/machine/cpu.ts'
import type { CudaPrecision } from '../../engines/cuda/precisions.ts'
import type { PlanPrecision } from '../../engines/tensorrt/plan.ts'
import { listCandidates } from './start-engine.ts'

const names = (
  config: Parameters<typeof listCandidates>[0],
  features: readonly CpuFeature[],
  hasOpenvino: boolean,
  planPrecisions: readonly PlanPrecision[] = [],
  nativePrecision?: CudaPrecision,
): string[] =>
  listCandidates(
    config,
    { features: new Set(features) },
    { hasOpenvino, planPrecisions, nativePrecision },
  ).map(({ name, precision }) => `${name} ${precision}`)

describe('listCandidates', () => {
  it('puts bf16 first where the CPU computes it, fp32 engines behind', () => {
    const auto = { engine: 'auto', precision: 'auto' } as const
    expect(names(auto, ['AVX2', 'AMX_BF16'], true)).toEqual(['openvino bf16', 'openvino fp32', 'onnx fp32'])
    expect(names(auto, ['AVX512F', 'AVX512_BF16'], true)[0]).toBe('openvino bf16')
    expect(names(auto, ['AVX2', 'AVX512F'], true)).toEqual(['openvino fp32', 'onnx fp32'])
    expect(names(auto, ['AMX_BF16'], false)).toEqual(['onnx fp32'])
  })

  it('keeps to what the configuration names', () => {
    expect(names({ engine: 'onnx', precision: 'auto' }, ['AMX_BF16'], true)).toEqual(['onnx fp32'])
    expect(names({ engine: 'openvino', precision: 'bf16' }, [], true)).toEqual(['openvino bf16'])
    expect(names({ engine: 'auto', precision: 'fp16' }, [], true)).toEqual(['openvino fp16'])
    expect(names({ engine: 'onnx', precision: 'bf16' }, [], true)).toEqual([])
  })

  it('puts the plans of TensorRT before all, and takes nothing else where it is named', () => {
    const auto = { engine: 'auto', precision: 'auto' } as const
    expect(names(auto, ['AMX_BF16'], true, ['fp8', 'bf16'])).toEqual([
      'tensorrt fp8',
      'tensorrt bf16',
      'openvino bf16',
      'openvino fp32',
      'onnx fp32',
    ])
    expect(names({ engine: 'tensorrt', precision: 'auto' }, [], true, ['fp8'])).toEqual(['tensorrt fp8'])
    expect(names({ engine: 'onnx', precision: 'auto' }, [], true, ['fp8'])).toEqual(['onnx fp32'])
  })

  it('puts the native engine behind the plans and before the CPU, and takes nothing else where it is named', () => {
    const auto = { engine: 'auto', precision: 'auto' } as const
    expect(names(auto, [], false, ['fp8'], 'bf16')).toEqual(['tensorrt fp8', 'cuda bf16', 'onnx fp32'])
    expect(names({ engine: 'cuda', precision: 'fp8-rowwise' }, [], true, ['fp8'], 'fp8-rowwise')).toEqual([
      'cuda fp8-rowwise',
    ])
    expect(names({ engine: 'tensorrt', precision: 'auto' }, [], true, ['fp8'], 'bf16')).toEqual([
      'tensorrt fp8',
    ])
  })
})
