/** The binding against a library of TensorRT's table layout, written in C from its headers: order, arguments, lifetimes,
 * errors, log messages across threads. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { FakeCudaDriver } from '../../../../test/fakes/cuda-driver.ts'
import { failureOf, thrownBy } from '../../../../test/fakes/failure.ts'
import { canCompile, compileNative } from '../../../../test/fakes/native-library.ts'
import type { CudaStream, DevicePointer } from '../cuda.ts'
import { loadLibrary } from '../library.ts'
import { Builder } from './builder.ts'
import { fromNativeDims, toNativeDims, toTensorType } from './dims.ts'
import { type Severity, type TensorrtMessage } from './logger.ts'
import { methodTable } from './method-table.ts'
import type { BuildProgress } from './progress-monitor.ts'
import { OnnxParser } from './onnx-parser.ts'
import { Runtime } from './runtime.ts'
import { loadTensorrt, parseVersion, type Tensorrt } from './tensorrt.ts'

const cuda = new FakeCudaDriver().api

interface FakeLibrary {
  readonly path: string
  readonly calls: () => string[]
  readonly clear: () => void
  readonly live: () => number
  readonly setMode: (name: string, value: number) => void
}

function makeLibrary(version: number): FakeLibrary {
  const path = compileNative('nvinfer', { TENSORRT_VERSION: version })
  const library = loadLibrary(path)
  const read = library.declare<[], string>('const char *fake_calls()')
  return {
    path,
    calls: () => read().trimEnd().split('\n'),
    clear: library.declare<[], void>('void fake_clear()'),
    live: library.declare<[], number>('int fake_live()'),
    setMode: library.declare<[string, number], void>('void fake_mode(const char *name, int value)'),
  }
}

const modes = [
  'fail_build',
  'fail_engine',
  'fail_create',
  'bad_threads',
  'parse_errors',
  'reject_shape',
  'quiet',
]

describe.skipIf(!canCompile).each([
  [10, 100_600, 2],
  [11, 110_100, 0],
])('TensorRT %i, from C', (major, versionNumber, networkFlags) => {
  let fake: FakeLibrary
  let tensorrt: Tensorrt

  beforeAll(() => {
    fake = makeLibrary(versionNumber)
    const paths = { infer: fake.path, onnxParser: fake.path }
    tensorrt = loadTensorrt(paths, cuda, { allowUnproven: true })
  })
  beforeEach(() => fake.clear())
  afterEach(() => {
    for (const mode of modes) fake.setMode(mode, 0)
    const left = fake.live() + tensorrt.children.count
    const isWrong = fake.calls().some((line) => line.startsWith('WRONG'))
    if (left > 0 || isWrong) throw new Error(`${left} objects left; wrong table entry called: ${isWrong}`)
  })

  it('is the version its library says, loaded once', () => {
    expect(tensorrt.version.major).toBe(major)
    expect(loadTensorrt({ infer: fake.path }, cuda)).toBe(tensorrt)
  })

  it('builds: every setting reaches its method, and everything is freed, children first', async () => {
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

  it('runs: shapes, addresses and stream reach the context', async () => {
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

  it("keeps TensorRT's words in every failure", async () => {
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

  it('names the node that the parser does not know', async () => {
    using builder = new Builder(tensorrt)
    using network = builder.createNetwork()
    using parser = new OnnxParser(network)
    fake.setMode('parse_errors', 2)
    const error = await failureOf(parser.parseFile('/m.onnx'))
    expect([error.code, error.details]).toEqual([
      'ONNX_NOT_PARSED',
      {
        path: '/m.onnx',
        errors: [
          "node 17 '/encoder/NonZeroish_3' (NonZeroish): no importer registered for op: NonZeroish [code 8]",
          'Failed to open file [code 7]',
        ],
      },
    ])
    fake.setMode('parse_errors', 0)
    fake.setMode('fail_create', 1)
    expect((await failureOf(parser.parseFile('/m.onnx'))).details).toMatchObject({
      errors: ['ModelImporter: could not parse the file'],
    })
  })

  it('trusts no pointer that comes with an error', () => {
    fake.setMode('fail_create', 1)
    for (const create of [() => new Builder(tensorrt), () => new Runtime(tensorrt)]) {
      expect(thrownBy(create)).toMatchObject({
        code: 'TENSORRT_FAILED',
        details: { reason: 'CUDA initialization failure with error: 35' },
      })
    }
  })

  it('refuses use after free, and a free in the middle of a build', async () => {
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

  it('tells how far a build is, and stops it on the way', async () => {
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

  it.each([
    ['error', []],
    ['warning', ['a weight is subnormal']],
    ['verbose', ['trying a tactic', '[MemUsageChange] building', 'a weight is subnormal']],
  ] as const)(
    'lets a listener of %s hear what it asked for, until it leaves',
    async (least: Severity, texts) => {
      using builder = new Builder(tensorrt)
      using network = builder.createNetwork()
      using config = builder.createConfig()
      const heard: string[] = []
      const throwing = tensorrt.logger.listen(() => {
        throw new Error('a listener that throws')
      }, 'verbose')
      const listener = tensorrt.logger.listen(({ text }) => heard.push(text), least)
      using plan = await builder.build(network, config)
      listener[Symbol.dispose]()
      throwing[Symbol.dispose]()
      using again = await builder.build(network, config)
      expect([heard, plan.isFreed, again.isFreed]).toEqual([texts, false, false])
    },
  )
})

describe.skipIf(!canCompile)('a TensorRT that is not the one known', () => {
  it.each([
    [8601, '8.6.1', 'its methods are unknown here'],
    [120_000, '12.0.0', 'its methods are unknown here'],
    [110_200, '11.2.0', 'it has never been run with this package'],
  ])('%i is refused as %s, before anything is made', (number, version, reason) => {
    const fake = makeLibrary(number)
    expect(thrownBy(() => loadTensorrt({ infer: fake.path }, cuda))).toMatchObject({
      code: 'TENSORRT_VERSION',
      details: { version, supported: '10.x', reason },
    })
    expect(fake.calls()).toEqual([''])
  })

  it('is noticed by a harmless read, before anything else is called', () => {
    const fake = makeLibrary(100_900)
    const tensorrt = loadTensorrt({ infer: fake.path }, cuda)
    fake.setMode('bad_threads', 1)
    for (const [create, read] of [
      [() => new Builder(tensorrt), 'IBuilder::getMaxThreads reads -559038737'],
      [() => new Runtime(tensorrt), 'IRuntime::getMaxThreads reads 0'],
    ] as const) {
      expect(thrownBy(create)).toMatchObject({
        code: 'TENSORRT_VERSION',
        details: { version: '10.9.0', reason: expect.stringContaining(read) as string },
      })
    }
    expect(fake.calls()).toEqual(['create IBuilder 100900', 'create IRuntime 100900'])
  })

  it('lacks its parser aloud, and the size of a context in 10.0', async () => {
    const fake = makeLibrary(100_001)
    const tensorrt = loadTensorrt({ infer: fake.path }, cuda)
    using builder = new Builder(tensorrt)
    using network = builder.createNetwork()
    expect(thrownBy(() => new OnnxParser(network)).code).toBe('LIBRARY_NOT_FOUND')
    using runtime = new Runtime(tensorrt)
    expect((await runtime.deserialize(Buffer.from('plan'))).contextBytes).toBeUndefined()
  })
})

describe.skipIf(!canCompile || process.platform !== 'linux')('the kernels of the builder', () => {
  it('are opened beside TensorRT, wherever that lies', () => {
    const fake = makeLibrary(100_600)
    const resource = join(dirname(fake.path), 'libnvinfer_builder_resource.so.10.6.0')
    copyFileSync(compileNative('nvml'), resource)
    writeFileSync(join(dirname(fake.path), 'libnvinfer_builder_resource_win.so.10.6.0'), 'not a library')
    const tensorrt = loadTensorrt({ infer: fake.path }, cuda)
    const isOpen = () => readFileSync('/proc/self/maps', 'utf8').includes(resource)
    using runtime = new Runtime(tensorrt)
    expect([runtime.isFreed, isOpen()]).toEqual([false, false])
    using builder = new Builder(tensorrt)
    expect([builder.isFreed, isOpen()]).toEqual([false, true])
  })
})

describe('TensorRT without a GPU', () => {
  it('is not even opened: it would end the process', () => {
    const paths = { infer: '/absent/libnvinfer.so.10' }
    expect(thrownBy(() => loadTensorrt(paths, new FakeCudaDriver({ deviceCount: 0 }).api)).code).toBe(
      'CUDA_STATUS',
    )
    expect(() => loadTensorrt(paths, cuda)).toThrow(/cannot open/)
  })
})

describe('values', () => {
  it.each([
    [100_600, { major: 10, minor: 6, patch: 0 }],
    [101_602, { major: 10, minor: 16, patch: 2 }],
    [110_100, { major: 11, minor: 1, patch: 0 }],
    [8601, { major: 8, minor: 6, patch: 1 }],
  ])('version %i', (number, version) => {
    expect(parseVersion(number)).toEqual(version)
  })

  it('shapes go there and back', () => {
    const native = toNativeDims([-1, 512])
    const bytes = new DataView(native.buffer)
    expect([
      native.byteLength,
      bytes.getInt32(0, true),
      bytes.getBigInt64(8, true),
      bytes.getBigInt64(16, true),
    ]).toEqual([72, 2, -1n, 512n])
    expect(fromNativeDims({ nbDims: 2, d: native.subarray(1) })).toEqual([-1, 512])
    expect(thrownBy(() => toNativeDims(Array<number>(9).fill(1))).code).toBe('INTERNAL')
    expect(thrownBy(() => toTensorType(99)).code).toBe('TENSORRT_FAILED')
  })

  it('no two methods of a class stand in one place of a table', () => {
    for (const column of [0, 1]) {
      const places = Object.entries(methodTable).map(
        ([name, declaration]) => `${name.split('::')[0]} ${declaration[column as 0 | 1]}`,
      )
      expect(new Set(places).size).toBe(places.length)
    }
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
