import { expect, it } from 'vitest'
import { describeTensorrt } from '../../../../test/fakes/describe-tensorrt.ts'
import type { CudaStream, DevicePointer } from '../cuda.ts'
import { Runtime } from './runtime.ts'

describeTensorrt('a runtime', (made) => {
  it('runs: shapes, addresses and stream reach the context', async () => {
    const { fake, tensorrt } = made()
    const stream = 0x5000n as CudaStream
    {
      using runtime = new Runtime(tensorrt)
      const engine = await runtime.deserialize(Buffer.from('plan'))
      expect(engine.tensors).toEqual([
        { name: 'input_ids', mode: 'input', type: 'int64', shape: [-1, -1] },
        { name: 'attention_mask', mode: 'input', type: 'int64', shape: [-1, -1] },
        { name: 'embedding', mode: 'output', type: 'fp32', shape: [-1, 384] },
      ])
      expect([engine.profileCount, engine.contextBytes, engine.inspect()]).toEqual([
        2,
        5 * 2 ** 30,
        '{"Layers": []}',
      ])
      expect(engine.profileShapes('input_ids', 1)).toEqual({ min: [4, 512], opt: [8, 512], max: [16, 512] })
      const execution = engine.createContext()
      execution.setProfile(1, stream)
      execution.setInputShape('input_ids', [2, 512])
      execution.setAddress('embedding', 0x7f0000001000n as DevicePointer)
      expect([execution.shapeOf('embedding'), execution.shapeOf('absent')]).toEqual([[2, 384], []])
      execution.enqueue(stream)
      // Freed with the runtime, though nobody asked for it.
      expect(runtime.children.count).toBe(1)
    }
    expect(fake.calls().filter((line) => !line.startsWith('create I') && !line.startsWith('logger'))).toEqual(
      [
        'IRuntime::deserializeCudaEngine 4 plan',
        'delete IEngineInspector',
        'ICudaEngine::getProfileShape input_ids 1 0',
        'ICudaEngine::getProfileShape input_ids 1 1',
        'ICudaEngine::getProfileShape input_ids 1 2',
        'ICudaEngine::createExecutionContext 0',
        'IExecutionContext::setOptimizationProfileAsync 1 0x5000',
        'IExecutionContext::setInputShape input_ids 2x512',
        'IExecutionContext::setTensorAddress embedding 0x7f0000001000',
        'IExecutionContext::enqueueV3 0x5000',
        'delete IExecutionContext',
        'delete ICudaEngine',
        'delete IRuntime',
      ],
    )
  })
})
