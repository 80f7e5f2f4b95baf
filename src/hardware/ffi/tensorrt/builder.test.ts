import { expect, it } from 'vitest'
import { describeTensorrt } from '../../../../test/fakes/describe-tensorrt.ts'
import { failureOf } from '../../../../test/fakes/failure.ts'
import { Builder } from './builder.ts'
import type { TensorrtMessage } from './logger.ts'
import { OnnxParser } from './onnx-parser.ts'
import type { BuildProgress } from './progress-monitor.ts'

describeTensorrt('a builder', (made) => {
  it('builds: every setting reaches its method, and everything is freed, children first', async () => {
    const { major, versionNumber, networkFlags, fake, tensorrt } = made()
    const messages: TensorrtMessage[] = []
    const listener = tensorrt.logger.listen((message) => messages.push(message), 'info')
    {
      using builder = new Builder(tensorrt)
      using network = builder.createNetwork()
      using parser = new OnnxParser(network)
      await parser.parseFile('/models/grüße.onnx')
      expect([network.inputs, network.outputs]).toEqual([
        [
          { name: 'input_ids', type: 'int64', shape: [-1, 384] },
          { name: 'attention_mask', type: 'int64', shape: [-1, 384] },
        ],
        [{ name: 'embedding', type: 'fp32', shape: [-1, 384] }],
      ])
      using config = builder.createConfig()
      expect([config.optimizationLevel, config.tacticSources]).toEqual([
        3,
        ['EDGE_MASK_CONVOLUTIONS', 'JIT_CONVOLUTIONS'],
      ])
      config.optimizationLevel = 5
      config.workspaceBytes = 2 ** 33 + 1
      config.profilingVerbosity = 'detailed'
      config.setTacticSources(['CUBLAS', 'CUDNN'])
      config.setFlag('TF32')
      expect([config.optimizationLevel, config.workspaceBytes, config.tacticSources]).toEqual([
        5,
        2 ** 33 + 1,
        ['CUBLAS', 'CUDNN'],
      ])
      expect([config.hasFlag('TF32'), config.hasFlag('DISABLE_TIMING_CACHE')]).toEqual([true, false])
      const profile = builder.createProfile()
      profile.setShapes('input_ids', { min: [1, 16], opt: [1, 512], max: [2, 512] })
      expect([config.addProfile(profile), config.addProfile(profile)]).toEqual([0, 1])
      using cache = config.createTimingCache(Buffer.from('timings'))
      using empty = config.createTimingCache()
      cache.combine(empty, true)
      config.setTimingCache(cache)

      using building = countTurns()
      using plan = await builder.build(network, config)
      expect(building.turns).toBeGreaterThan(2)
      expect(Buffer.from(plan.bytes).toString()).toBe('a plan of 17 byte')
      using timings = cache.serialize()
      expect(timings.bytes.length).toBe(17)
    }
    listener[Symbol.dispose]()
    expect(messages).toEqual([
      { severity: 'info', text: 'created' },
      { severity: 'info', text: '[MemUsageChange] building' },
      { severity: 'warning', text: 'a weight is subnormal' },
    ])
    const logger = major === 11 ? ['logger ILogger 1.0 language 0'] : []
    expect(fake.calls()).toEqual([
      `create IBuilder ${versionNumber}`,
      ...logger,
      `IBuilder::createNetworkV2 ${networkFlags}`,
      'create IParser INetworkDefinition 100 same logger',
      'IParser::parseFromFile /models/grüße.onnx 2',
      'IBuilderConfig::setMemoryPoolLimit 0',
      'IBuilderConfig::setProfilingVerbosity 2',
      'IOptimizationProfile::setDimensions input_ids 0 1x16',
      'IOptimizationProfile::setDimensions input_ids 1 1x512',
      'IOptimizationProfile::setDimensions input_ids 2 2x512',
      'IBuilderConfig::addOptimizationProfile IOptimizationProfile',
      'IBuilderConfig::addOptimizationProfile IOptimizationProfile',
      'IBuilderConfig::createTimingCache 7 timings',
      'IBuilderConfig::createTimingCache 0 ',
      'ITimingCache::combine ITimingCache 1',
      'IBuilderConfig::setTimingCache ITimingCache 0',
      'IBuilder::buildSerializedNetwork INetworkDefinition IBuilderConfig',
      'built INetworkDefinition IBuilderConfig',
      'ITimingCache::serialize ',
      'delete IHostMemory',
      'delete IHostMemory',
      'delete ITimingCache',
      'delete ITimingCache',
      'delete IBuilderConfig',
      'delete IParser',
      'delete INetworkDefinition',
      'delete IBuilder',
    ])
  })

  it('tells how far a build is, and stops it on the way', async () => {
    const { fake, tensorrt } = made()
    using builder = new Builder(tensorrt)
    using network = builder.createNetwork()
    using config = builder.createConfig()
    const progress: BuildProgress[] = []
    using plan = await builder.build(network, config, {
      onProgress: (step) => {
        progress.push(step)
        throw new Error('a listener that throws')
      },
    })
    const engine = { phase: 'Building Engine', parent: undefined, steps: 4 }
    const tactics = { phase: 'Tactics', parent: 'Building Engine', steps: 2 }
    expect([plan.isFreed, progress]).toEqual([
      false,
      [
        { ...engine, completedSteps: 0, isDone: false },
        { ...tactics, completedSteps: 0, isDone: false },
        { ...tactics, completedSteps: 1, isDone: false },
        { ...tactics, completedSteps: 2, isDone: false },
        { ...tactics, completedSteps: 2, isDone: true },
        { ...engine, completedSteps: 0, isDone: true },
      ],
    ])
    const stop = new AbortController()
    const seen: number[] = []
    const stopped = builder.build(network, config, {
      signal: stop.signal,
      onProgress: ({ completedSteps }) => {
        seen.push(completedSteps)
        if (completedSteps === 1) stop.abort()
      },
    })
    expect((await failureOf(stopped)).code).toBe('REQUEST_CANCELLED')
    expect(seen).toEqual([0, 0, 1, 1, 0])
    expect((await failureOf(builder.build(network, config, { signal: stop.signal }))).code).toBe(
      'REQUEST_CANCELLED',
    )
    const lines = fake.calls().filter((line) => /^(IBuilder::build|monitor)/.test(line))
    expect(lines).toEqual(
      [1, 2].flatMap(() => [
        'IBuilder::buildSerializedNetwork INetworkDefinition IBuilderConfig',
        'monitor IProgressMonitor 1.0',
      ]),
    )
  })
})

/** Counts the turns of the event loop, which stays free while a plan is built. */
function countTurns(): Disposable & { readonly turns: number } {
  let turns = 0
  let isOver = false
  const count = (): void => {
    turns++
    if (!isOver) setImmediate(count)
  }
  setImmediate(count)
  return {
    get turns() {
      return turns
    },
    [Symbol.dispose]() {
      isOver = true
    },
  }
}
