import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failureOf, thrownBy } from '../../../test/fakes/failure.ts'
import { canCompile, compileNative } from '../../../test/fakes/native-library.ts'
import { loadLibrary, readOut } from '../ffi/library.ts'
import { loadNvml, NVML_CLOCK_MEM, NVML_CLOCK_SM, type NvmlDevice } from '../ffi/nvml.ts'
import { hasNvidiaPciDevice, readGpus } from './gpu.ts'

describe.skipIf(!canCompile)('the GPUs of a machine, from C', () => {
  let cuda: string
  let nvml: string
  beforeAll(() => {
    cuda = compileNative('cuda')
    nvml = compileNative('nvml')
  })

  it('are told by the driver and, where it knows them, by NVML', async () => {
    const { cudaVersion, gpus } = await readGpus({ cuda, nvml })
    expect(cudaVersion).toBe('13.0')
    expect(
      gpus.map(({ name, freeBytes, clockMhz, memoryClockMhz }) => [
        name,
        freeBytes,
        clockMhz,
        memoryClockMhz,
      ]),
    ).toEqual([
      ['Fake 0', 100 * 2 ** 30, 1755, undefined],
      ['Fake 1', undefined, undefined, undefined],
    ])
    expect(loadLibrary(nvml).declare<[], number>('int fake_open_count()')()).toBe(0)
  })

  it('are told without NVML', async () => {
    for (const absent of [undefined, '/absent/libnvidia-ml.so.1']) {
      const { gpus } = await readGpus({ cuda, nvml: absent })
      expect(gpus[0]).toMatchObject({ name: 'Fake 0', totalBytes: 192 * 2 ** 30, freeBytes: undefined })
    }
  })

  it('are refused in the words of the driver, or of the loader', async () => {
    const library = loadLibrary(cuda)
    library.declare<[string, number], void>('void fake_fail(const char *api, int status)')('cuInit', 201)
    expect(await failureOf(readGpus({ cuda }))).toMatchObject({
      code: 'GPU_UNAVAILABLE',
      message: expect.stringContaining('cuInit answered 201 CUDA_ERROR_INVALID_CONTEXT') as string,
    })
    expect(await failureOf(readGpus({ cuda: nvml }))).toMatchObject({
      code: 'GPU_UNAVAILABLE',
      message: expect.stringMatching(/library .*libnvml\.so cannot be loaded: .*cuGetErrorName/) as string,
    })
  })

  it('answer with a status that is checked', () => {
    const api = loadNvml(nvml)
    expect(loadNvml(nvml)).toBe(api)
    const version = Buffer.alloc(80)
    api.nvmlSystemGetDriverVersion(version, version.length)
    expect(version.toString('latin1', 0, version.indexOf(0))).toBe('580.65.06')
    const device = 0xd000n as NvmlDevice
    expect(readOut<number>((out) => api.nvmlDeviceGetMaxClockInfo(device, NVML_CLOCK_SM, out))).toBe(1980)
    expect(thrownBy(() => api.nvmlDeviceGetClockInfo(device, NVML_CLOCK_MEM, [null]))).toMatchObject({
      code: 'NVML_STATUS',
      details: { api: 'nvmlDeviceGetClockInfo', status: 3, reason: 'Not Supported' },
    })
  })
})

describe('the PCI bus', () => {
  let root: string
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'pci-'))
    for (const [device, vendor, kind] of [
      ['network', '0x10de', '0x020000'],
      ['other', '0x8086', '0x030000'],
    ] as const) {
      await mkdir(join(root, device))
      await writeFile(join(root, device, 'vendor'), `${vendor}\n`)
      await writeFile(join(root, device, 'class'), `${kind}\n`)
    }
  })
  afterAll(() => rm(root, { recursive: true }))

  it('shows whether an NVIDIA GPU is there', async () => {
    expect(hasNvidiaPciDevice(root)).toBe(false)
    await mkdir(join(root, 'gpu'))
    await writeFile(join(root, 'gpu', 'vendor'), '0x10de\n')
    await writeFile(join(root, 'gpu', 'class'), '0x030200\n')
    expect(hasNvidiaPciDevice(root)).toBe(true)
    expect(hasNvidiaPciDevice(join(root, 'absent'))).toBe(false)
  })
})
