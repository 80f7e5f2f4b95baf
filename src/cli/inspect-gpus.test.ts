import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { canCompile, compileNative } from '../../test/fakes/native-library.ts'
import { loadLibrary } from '../hardware/ffi/library.ts'
import { chooseCudaSearch } from './cuda-search.ts'
import { inspectGpus, inspectGpusWith } from './inspect-gpus.ts'

let root: string
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'inspect-gpus-'))
})
afterAll(() => rmSync(root, { recursive: true }))

describe('doctor on a machine without an NVIDIA driver', () => {
  it('says so in one line, at once', async () => {
    const nowhere = { systemFolders: [root] }
    expect(await inspectGpusWith(nowhere, false)).toEqual([
      { level: 'note', subject: 'gpu', text: 'no NVIDIA GPU and no driver of one' },
    ])
    expect(await inspectGpusWith(nowhere, true)).toEqual([
      {
        level: 'fail',
        subject: 'gpu',
        text: 'an NVIDIA GPU without its driver',
        fix: expect.stringContaining('nvidia-driver') as string,
      },
    ])
    const from = performance.now()
    expect((await inspectGpus({ environment: {}, home: root })).length).toBeGreaterThan(0)
    expect(performance.now() - from).toBeLessThan(2000)
  })
})

describe.skipIf(!canCompile)('doctor on a machine with GPUs, from C', () => {
  it('tells chip, clocks, memory, driver, and each library or what brings it', async () => {
    copyFileSync(compileNative('cuda'), join(root, 'libcuda.so.1'))
    copyFileSync(compileNative('nvml'), join(root, 'libnvidia-ml.so.1'))
    writeFileSync(join(root, 'libnvinfer.so.10.6.0'), '')
    const findings = await inspectGpusWith({ systemFolders: [root], isJetson: false }, true)
    expect(findings.map(({ level, subject }) => [level, subject])).toEqual([
      ['ok', 'gpu 0'],
      ['ok', 'gpu 1'],
      ['ok', 'nvidia driver'],
      ['ok', 'nvml'],
      ['ok', 'tensorrt'],
      ['note', 'tensorrt onnx parser'],
      ['note', 'cublaslt'],
      ['note', 'nvrtc'],
      ['note', 'cupti'],
    ])
    expect(findings[0]!.text).toBe(
      'Fake 0, sm_750760, 160 multiprocessors at 1755 of 0.13 MHz; 192.0 GiB shared with the CPU, 100.0 free; memory 0.36 MHz, 370 bit; 93 % busy, 612 of 700 W, 64 °C',
    )
    expect(findings[1]!.text).not.toContain('busy')
    expect(findings[2]!.text).toBe(`1, up to CUDA 13.0, ${join(root, 'libcuda.so.1')}`)
    expect(findings[4]!.text).toBe(`10.6.0 in ${join(root, 'libnvinfer.so.10.6.0')}`)
    expect(findings[6]).toMatchObject({
      text: `not found; searched ${root}`,
      fix: "pip install nvidia-cublas, or apt install libcublas-13-0 from NVIDIA's CUDA repository",
    })
  })

  it('names heat and a weak power supply, not what a driver does by itself', async () => {
    const nvml = loadLibrary(join(root, 'libnvidia-ml.so.1'))
    nvml.declare<[number], void>('void fake_throttle(unsigned long long reasons)')(0x1 | 0x4 | 0x40 | 0x80)
    const findings = await inspectGpusWith({ systemFolders: [root], isJetson: false }, true)
    expect(findings[1]).toEqual({
      level: 'note',
      subject: 'gpu 0 clock',
      text: 'its clock is held back now: hardware thermal limit, power brake',
      fix: 'look after cooling and power supply before anything is measured',
    })
  })

  it("keeps the driver's words when it has no GPU to give", async () => {
    const fail = loadLibrary(join(root, 'libcuda.so.1')).declare<[string, number], void>(
      'void fake_fail(const char *api, int status)',
    )
    for (const [hasDevice, level] of [
      [true, 'fail'],
      [false, 'note'],
    ] as const) {
      fail('cuInit', 201)
      const findings = await inspectGpusWith({ systemFolders: [root] }, hasDevice)
      expect(findings).toEqual([
        {
          level,
          subject: 'gpu',
          text: expect.stringContaining('CUDA_ERROR_INVALID_CONTEXT: invalid device context') as string,
        },
      ])
    }
  })
})

describe('the search for libraries', () => {
  it('takes folders from the environment, and the Pythons of the user', () => {
    for (const folder of ['venv/lib/python3.12/site-packages', 'home/.local/lib/python3.11/site-packages']) {
      mkdirSync(join(root, folder), { recursive: true })
    }
    const search = chooseCudaSearch({
      environment: {
        LD_LIBRARY_PATH: '/a:/b',
        CUDA_PATH: '/cuda',
        VIRTUAL_ENV: join(root, 'venv'),
        CONDA_PREFIX: join(root, 'absent'),
      },
      home: join(root, 'home'),
    })
    expect(search).toMatchObject({ libraryPath: '/a:/b', cudaHome: '/cuda' })
    expect(search.sitePackages?.slice(0, 2)).toEqual([
      join(root, 'venv/lib/python3.12/site-packages'),
      join(root, 'home/.local/lib/python3.11/site-packages'),
    ])
    expect(chooseCudaSearch({ environment: { CUDA_HOME: '/x', CUDA_PATH: '/y' }, home: root }).cudaHome).toBe(
      '/x',
    )
  })
})
