import { describe, expect, it } from 'vitest'
import { cpuMachine, tuneFakeMachine } from '../../../test/fixtures/tune-fake-machine.ts'
import { baselineSettings, chooseEngines, knobsFor, planStages, toChange } from './search-space.ts'

describe('the search space', () => {
  const cpuEngines = chooseEngines(cpuMachine, false)
  const gpu = { usableCores: 16, hasGpu: true }

  it('skips GPU stages without a GPU by name, takes the values of the schema', () => {
    const planned = planStages(cpuMachine, cpuEngines)
    for (const stage of ['builder', 'tactics', 'workspace', 'memory']) {
      expect(planned.find(({ name }) => name === stage)).toMatchObject({
        skipped: 'no NVIDIA GPU on this machine',
      })
    }
    expect(planned[0]).toEqual({
      name: 'engine',
      knobs: [{ key: 'engine', values: ['onnx', 'openvino'], byDefault: 'auto' }],
    })
    const threads = planned.find(({ name }) => name === 'threads')!
    expect(threads.knobs).toEqual([{ key: 'threads', values: [1, 2, 4], byDefault: undefined }])
    expect(() => planStages(cpuMachine, cpuEngines, ['batchin'])).toThrow("did you mean 'batching'?")
    expect(planStages(cpuMachine, cpuEngines, ['batching']).map(({ name }) => name)).toEqual(['batching'])
  })

  it('starts where a model can: onnx, or the GPU for one too large for fp32; or where it is told', () => {
    expect(chooseEngines(gpu, false)).toEqual(['onnx', 'openvino', 'tensorrt', 'cuda'])
    expect(chooseEngines(gpu, true)).toEqual(['cuda', 'tensorrt'])
    expect(chooseEngines(cpuMachine, true, 'tensorrt,cuda')).toEqual(['tensorrt', 'cuda'])
    expect(() => chooseEngines(cpuMachine, false, 'onxx')).toThrow("'onxx' is no engine")
    expect(baselineSettings(gpu, 'tensorrt')).toEqual({
      engine: 'tensorrt',
      precision: 'bf16',
      cudaGraphs: 0,
      streams: 1,
      maxBatchSize: 1,
      adaptiveBatching: true,
    })
    expect(baselineSettings(gpu, 'cuda')).not.toHaveProperty('streams')
    expect(baselineSettings(cpuMachine)).toMatchObject({ engine: 'onnx', precision: 'fp32', threads: 2 })
  })

  it('gives an engine its own knobs and precisions, and another engine a precision that it has', () => {
    const planned = planStages(gpu, ['tensorrt', 'cuda'])
    const keysFor = (engine: 'tensorrt' | 'cuda' | 'onnx', stage: string): string[] =>
      knobsFor(
        planned.find(({ name }) => name === stage)!,
        { engine, precision: 'bf16' },
      ).map(({ key: k }) => k)
    expect(keysFor('tensorrt', 'memory')).toEqual(['cudaGraphs', 'gpuWait', 'embeddingTable'])
    expect(keysFor('cuda', 'memory')).toEqual(['cudaGraphs', 'gpuWait'])
    expect(keysFor('cuda', 'tactics')).toEqual([])
    expect(keysFor('cuda', 'threads')).toEqual([])
    expect(keysFor('onnx', 'memory')).toEqual([])
    const precision = planned.find(({ name }) => name === 'precision')!
    expect(knobsFor(precision, { engine: 'cuda', precision: 'bf16' })[0]!.values).toEqual([
      'bf16',
      'fp8',
      'fp8-rowwise',
    ])
    const [engine] = planned[0]!.knobs
    expect(toChange(engine!, 'cuda', { engine: 'onnx', precision: 'fp32' })).toEqual({
      engine: 'cuda',
      precision: 'bf16',
    })
    expect(toChange(engine!, 'cuda', { engine: 'tensorrt', precision: 'fp8' })).toEqual({ engine: 'cuda' })
  })

  it('leaves a precision that the engine does not have to one that has it', () => {
    const stage = planStages(cpuMachine, cpuEngines, ['precision'])[0]!
    const settings = { engine: 'onnx', precision: 'fp32' } as const
    const [knob] = knobsFor(stage, settings)
    expect(knob!.values).toEqual(['fp32', 'bf16'])
    expect(toChange(knob!, 'bf16', settings)).toEqual({ engine: 'openvino', precision: 'bf16' })
    expect(toChange(knob!, 'bf16', { ...settings, engine: 'openvino' })).toEqual({ precision: 'bf16' })
    expect(knobsFor(planStages(cpuMachine, ['onnx'], ['precision'])[0]!, settings)).toEqual([])
  })

  it('finds bf16 where both engines are equally fast at fp32', async () => {
    const { result } = await tuneFakeMachine(
      { speed: ({ precision }) => (precision === 'bf16' ? 300 : 100), noise: 0.02 },
      { stages: planStages(cpuMachine, cpuEngines, ['engine', 'precision']) },
    )
    expect(result.settings).toMatchObject({ engine: 'openvino', precision: 'bf16' })
  })
})
