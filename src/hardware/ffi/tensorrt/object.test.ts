import { expect, it } from 'vitest'
import { describeTensorrt } from '../../../../test/fakes/describe-tensorrt.ts'
import { failureOf, thrownBy } from '../../../../test/fakes/failure.ts'
import type { CudaStream } from '../cuda.ts'
import { Builder } from './builder.ts'
import { OnnxParser } from './onnx-parser.ts'
import { Runtime } from './runtime.ts'

describeTensorrt('objects', (made) => {
  it("keeps TensorRT's words in every failure", async () => {
    const { fake, tensorrt } = made()
    using builder = new Builder(tensorrt)
    using network = builder.createNetwork()
    using config = builder.createConfig()
    using runtime = new Runtime(tensorrt)
    const engine = await runtime.deserialize(Buffer.from('plan'))
    const execution = engine.createContext()
    const profile = builder.createProfile()
    fake.setMode('fail_build', 1)
    expect((await failureOf(builder.build(network, config))).message).toBe(
      "TensorRT's IBuilder::buildSerializedNetwork failed: IBuilder::buildSerializedNetwork: Error Code 10: workspace of 16 MiB is too small",
    )
    fake.setMode('fail_engine', 1)
    expect(await failureOf(runtime.deserialize(Buffer.from('old')))).toMatchObject({
      code: 'TENSORRT_FAILED',
      details: {
        api: 'IRuntime::deserializeCudaEngine',
        reason: 'The engine plan file is not compatible with this version of TensorRT',
      },
    })
    fake.setMode('reject_shape', 1)
    expect(thrownBy(() => execution.setInputShape('input_ids', [64, 512])).message).toContain(
      '64 is not in [1, 32]',
    )
    expect(
      thrownBy(() => profile.setShapes('input_ids', { min: [2, 1], opt: [1, 1], max: [1, 1] })).message,
    ).toContain('dimensions out of order')
    expect(thrownBy(() => config.addProfile(profile)).details).toEqual({
      api: 'IBuilderConfig::addOptimizationProfile',
      reason: 'it gave no reason',
    })
    expect(thrownBy(() => config.setTacticSources([])).message).toContain('no tactic source is left')
    // What was said before the call is not its reason.
    expect(thrownBy(() => execution.enqueue(0n as CudaStream)).message).toContain('it gave no reason')
  })

  it('refuses use after free, and a free in the middle of a build', async () => {
    const { fake, tensorrt } = made()
    const builder = new Builder(tensorrt)
    const network = builder.createNetwork()
    const parser = new OnnxParser(network)
    const config = builder.createConfig()
    const building = builder.build(network, config)
    for (const object of [network, config, builder]) {
      expect(thrownBy(() => object[Symbol.dispose]())).toMatchObject({
        code: 'INTERNAL',
        details: { reason: expect.stringContaining('freed while it works') as string },
      })
    }
    using plan = await building
    expect(plan.bytes.length).toBe(17)
    builder[Symbol.dispose]()
    builder[Symbol.dispose]()
    expect(await failureOf(parser.parseFile('/m.onnx'))).toMatchObject({ code: 'USED_AFTER_FREE' })
    expect(thrownBy(() => config.workspaceBytes)).toMatchObject({
      details: { resource: 'a builder configuration' },
    })
    expect(fake.calls().slice(-4)).toEqual([
      'delete IBuilderConfig',
      'delete IParser',
      'delete INetworkDefinition',
      'delete IBuilder',
    ])
  })
})
