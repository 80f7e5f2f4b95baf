import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { canCompile, compileNative } from '../../../test/fakes/native-library.ts'
import { openTensorrt } from './tensorrt-library.ts'

let root: string
const at = (...parts: string[]) => join(root, ...parts)
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'tensorrt-library-'))
})
afterAll(() => rmSync(root, { recursive: true }))

describe.skipIf(!canCompile)('TensorRT of a machine, from C', () => {
  beforeAll(() => {
    const nvinfer = compileNative('nvinfer', { TENSORRT_VERSION: 100_600 })
    for (const folder of ['driver', 'trt', 'broken', 'empty']) mkdirSync(at(folder))
    copyFileSync(compileNative('cuda'), at('driver/libcuda.so.580.65.06'))
    copyFileSync(nvinfer, at('trt/libnvinfer.so.10.6.0'))
    copyFileSync(nvinfer, at('trt/libnvonnxparser.so.10'))
    writeFileSync(at('broken/libnvinfer.so.10'), 'no library')
  })
  const search = (...folders: string[]) => ({
    systemFolders: folders.map((folder) => at(folder)),
    isJetson: false,
  })

  it('is opened with its driver and GPU', async () => {
    const machine = await openTensorrt({ search: search('driver', 'trt') })
    expect([
      machine.tensorrt.versionText,
      machine.driverVersion,
      machine.cudaVersion,
      machine.device.name,
    ]).toEqual(['10.6.0', '580.65.06', '13.0', 'Fake 0'])
    for (const library of [at('trt'), at('trt/libnvinfer.so.10.6.0')]) {
      expect((await openTensorrt({ search: search('driver'), library })).tensorrt).toBe(machine.tensorrt)
    }
  })

  it.each([
    [
      'no driver',
      { search: { systemFolders: ['/nope'] } },
      'LIBRARY_NOT_FOUND',
      /^libcuda was not found; searched:\n {2}- \/nope\ninstall NVIDIA's driver/,
    ],
    [
      'no TensorRT',
      { search: search },
      'LIBRARY_NOT_FOUND',
      /^libnvinfer was not found[^]*pip install 'tensorrt-cu13==10\.\*', or apt install libnvinfer10/,
    ],
    ['a folder without it', { library: 'empty' }, 'LIBRARY_NOT_FOUND', /empty\npip install/],
    [
      'a file that is none',
      { library: 'broken' },
      'ENGINE_UNAVAILABLE',
      /libnvinfer\.so\.10 cannot be opened: .*doctor/s,
    ],
    ['another GPU', { deviceId: 1 }, 'GPU_UNAVAILABLE', /set CUDA_VISIBLE_DEVICES=1/],
  ])('says what is wrong: %s', async (_what, given, code, words) => {
    const {
      library,
      deviceId,
      search: own,
    } = given as {
      library?: string
      deviceId?: number
      search?: object
    }
    const error = await failureOf(
      openTensorrt({
        search: typeof own === 'object' ? own : search('driver'),
        ...(library === undefined ? {} : { library: at(library) }),
        ...(deviceId === undefined ? {} : { deviceId }),
      }),
    )
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(words)])
  })
})
