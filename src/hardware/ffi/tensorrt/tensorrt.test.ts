/** The binding against a library of TensorRT's table layout, written in C from its headers. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { FakeCudaDriver } from '../../../../test/fakes/cuda-driver.ts'
import { describeTensorrt, fakeCuda } from '../../../../test/fakes/describe-tensorrt.ts'
import { thrownBy } from '../../../../test/fakes/failure.ts'
import { compileTensorrt } from '../../../../test/fakes/fake-tensorrt.ts'
import { canCompile, compileNative } from '../../../../test/fakes/native-library.ts'
import { Builder } from './builder.ts'
import { OnnxParser } from './onnx-parser.ts'
import { Runtime } from './runtime.ts'
import { loadTensorrt, parseVersion } from './tensorrt.ts'

describeTensorrt('the library', (made) => {
  it('is the version its library says, loaded once', () => {
    const { major, fake, tensorrt } = made()
    expect(tensorrt.version.major).toBe(major)
    expect(loadTensorrt({ infer: fake.path }, fakeCuda)).toBe(tensorrt)
  })

  it('trusts no pointer that comes with an error', () => {
    const { fake, tensorrt } = made()
    fake.setMode('fail_create', 1)
    for (const create of [() => new Builder(tensorrt), () => new Runtime(tensorrt)]) {
      expect(thrownBy(create)).toMatchObject({
        code: 'TENSORRT_FAILED',
        details: { reason: 'CUDA initialization failure with error: 35' },
      })
    }
  })
})

describe.skipIf(!canCompile)('a TensorRT that is not the one known', () => {
  it.each([
    [8601, '8.6.1', 'its methods are unknown here'],
    [120_000, '12.0.0', 'its methods are unknown here'],
    [110_200, '11.2.0', 'it has never been run with this package'],
  ])('%i is refused as %s, before anything is made', (number, version, reason) => {
    const fake = compileTensorrt(number)
    expect(thrownBy(() => loadTensorrt({ infer: fake.path }, fakeCuda))).toMatchObject({
      code: 'TENSORRT_VERSION',
      details: { version, supported: '10.x', reason },
    })
    expect(fake.calls()).toEqual([''])
  })

  it('is noticed by a harmless read, before anything else is called', () => {
    const fake = compileTensorrt(100_900)
    const tensorrt = loadTensorrt({ infer: fake.path }, fakeCuda)
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
    const fake = compileTensorrt(100_001)
    const tensorrt = loadTensorrt({ infer: fake.path }, fakeCuda)
    using builder = new Builder(tensorrt)
    using network = builder.createNetwork()
    expect(thrownBy(() => new OnnxParser(network)).code).toBe('LIBRARY_NOT_FOUND')
    using runtime = new Runtime(tensorrt)
    expect((await runtime.deserialize(Buffer.from('plan'))).contextBytes).toBeUndefined()
  })
})

describe.skipIf(!canCompile || process.platform !== 'linux')('the kernels of the builder', () => {
  it('are opened beside TensorRT, wherever that lies', () => {
    const fake = compileTensorrt(100_600)
    const resource = join(dirname(fake.path), 'libnvinfer_builder_resource.so.10.6.0')
    copyFileSync(compileNative('nvml'), resource)
    writeFileSync(join(dirname(fake.path), 'libnvinfer_builder_resource_win.so.10.6.0'), 'not a library')
    const tensorrt = loadTensorrt({ infer: fake.path }, fakeCuda)
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
    expect(() => loadTensorrt(paths, fakeCuda)).toThrow(/cannot open/)
  })
})

describe('the number of a version', () => {
  it.each([
    [100_600, { major: 10, minor: 6, patch: 0 }],
    [101_602, { major: 10, minor: 16, patch: 2 }],
    [110_100, { major: 11, minor: 1, patch: 0 }],
    [8601, { major: 8, minor: 6, patch: 1 }],
  ])('version %i', (number, version) => {
    expect(parseVersion(number)).toEqual(version)
  })
})
