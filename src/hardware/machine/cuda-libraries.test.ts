import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compareVersions, cudaLibraryNames, findCudaLibrary } from './cuda-libraries.ts'

let root: string
const at = (...parts: string[]) => join(root, ...parts)
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cuda-libraries-'))
  for (const file of [
    'driver/libcuda.so.580.65.06',
    'driver/libcuda.so',
    'site/nvidia/cublas/lib/libcublasLt.so.12',
    'site/nvidia/cublas/lib/libcublas.so.12',
    'site/nvidia/cu13/lib/libnvrtc.so.13',
    'site/nvidia/cu13/lib/libnvrtc-builtins.so.13.0',
    'site/nvidia/cu13/lib/libcublasLt.so.13',
    'site/nvidia/cu13/lib/libcupti.so.13',
    'site/nvidia_cublas_cu12-12.8.4.1.dist-info/METADATA',
    'site/nvidia_cublas-13.0.0.19.dist-info/METADATA',
    'site/nvidia_cuda_nvrtc-13.0.48.dist-info/METADATA',
    'site/tensorrt_libs/libnvinfer.so.10',
    'site/tensorrt_libs/libnvonnxparser.so.10',
    'site/tensorrt_cu12_libs-10.9.0.34.post1.dist-info/METADATA',
    'toolkit/lib64/libnvrtc.so.12.8.93',
    'toolkit/extras/CUPTI/lib64/libcupti.so.2025.1.1',
    'two/libnvinfer.so.10.9.0',
    'two/libnvinfer.so.10.13.2',
    'two/libnvinfer.so.8',
    'two/libnvinfer_plugin.so.11',
    'empty/libother.so.1',
  ]) {
    await mkdir(dirname(at(file)), { recursive: true })
    await writeFile(at(file), '')
  }
  await symlink('libcuda.so.580.65.06', at('driver/libcuda.so.1'))
  await symlink('libcupti.so.2025.1.1', at('toolkit/extras/CUPTI/lib64/libcupti.so.12'))
})
afterAll(() => rm(root, { recursive: true }))

describe('a search for NVIDIA libraries', () => {
  it('takes the first folder that holds it, and tells where it looked', () => {
    const search = findCudaLibrary('libcuda', {
      libraryPath: `${at('absent')}::${at('empty')}`,
      systemFolders: [at('driver'), at('two')],
    })
    expect(search).toMatchObject({
      name: 'libcuda',
      title: 'NVIDIA driver',
      found: { path: at('driver/libcuda.so.580.65.06'), version: '580.65.06' },
      searched: [at('absent'), at('empty'), at('driver')],
    })
  })

  it('looks into LD_LIBRARY_PATH, then CUDA_HOME, then what pip installed, then the system', () => {
    const options = {
      libraryPath: at('two'),
      cudaHome: at('toolkit'),
      sitePackages: [at('site')],
      systemFolders: [at('driver')],
    }
    const found = Object.fromEntries(
      cudaLibraryNames.map((name) => [name, findCudaLibrary(name, options).found]),
    )
    expect(found).toEqual({
      libcuda: { path: at('driver/libcuda.so.580.65.06'), version: '580.65.06' },
      'libnvidia-ml': undefined,
      libnvinfer: { path: at('two/libnvinfer.so.10.13.2'), version: '10.13.2' },
      libnvonnxparser: { path: at('site/tensorrt_libs/libnvonnxparser.so.10'), version: '10.9.0.34' },
      libcublasLt: expect.objectContaining({
        version: expect.stringMatching(/^1[23]\./) as string,
      }) as object,
      libnvrtc: { path: at('toolkit/lib64/libnvrtc.so.12.8.93'), version: '12.8.93' },
      libcupti: { path: at('toolkit/extras/CUPTI/lib64/libcupti.so.12'), version: '12' },
    })
  })

  it("reads a wheel's exact version from pip's record", () => {
    const options = { sitePackages: [at('site')], systemFolders: [] }
    expect(findCudaLibrary('libnvrtc', options).found?.version).toBe('13.0.48')
    expect(findCudaLibrary('libnvinfer', options).found?.version).toBe('10.9.0.34')
    // No record for this one.
    expect(findCudaLibrary('libcupti', options).found?.version).toBe('13')
  })

  it('leaves out libraries that the driver is too old for', () => {
    const options = { sitePackages: [at('site')], systemFolders: [] }
    const twelve = findCudaLibrary('libcublasLt', { ...options, cudaMajor: 12 })
    expect(twelve.found).toEqual({
      path: at('site/nvidia/cublas/lib/libcublasLt.so.12'),
      version: '12.8.4.1',
    })
    expect(findCudaLibrary('libnvrtc', { ...options, cudaMajor: 12 }).found).toBeUndefined()
    // TensorRT counts its own way.
    expect(findCudaLibrary('libnvinfer', { ...options, cudaMajor: 9 }).found?.version).toBe('10.9.0.34')
  })

  it.each([
    ['libcuda', 13, false, /nvidia-driver-580.*--gpus all/],
    [
      'libnvinfer',
      12,
      false,
      /^pip install 'tensorrt-cu12==10\.\*', or apt install libnvinfer10 libnvonnxparsers10/,
    ],
    ['libcublasLt', 12, false, /^pip install nvidia-cublas-cu12, or apt install libcublas-/],
    ['libcublasLt', 13, false, /^pip install nvidia-cublas, or apt install libcublas-13-0/],
    [
      'libnvrtc',
      13,
      false,
      /^pip install nvidia-cuda-nvrtc nvidia-cuda-runtime, or apt install cuda-nvrtc-13-0/,
    ],
    ['libcupti', 13, false, /^pip install nvidia-cuda-cupti, /],
    ['libcupti', 13, true, /^apt install nvidia-jetpack/],
  ] as const)('tells what brings %s (CUDA %i, Jetson %s)', (name, cudaMajor, isJetson, fix) => {
    const search = findCudaLibrary(name, { systemFolders: [at('empty')], cudaMajor, isJetson })
    expect([search.found, search.searched, search.fix]).toEqual([
      undefined,
      [at('empty')],
      expect.stringMatching(fix),
    ])
  })

  it('knows the usual folders of this system', () => {
    const { searched } = findCudaLibrary('libcupti', { sitePackages: [] })
    if (process.platform === 'linux')
      expect(searched.some((folder) => folder.endsWith('-linux-gnu'))).toBe(true)
    expect(new Set(searched).size).toBe(searched.length)
  })
})

it('compares versions by number', () => {
  expect(['12.9', '12', '12.10', '9.99'].sort(compareVersions)).toEqual(['9.99', '12', '12.9', '12.10'])
  expect(compareVersions('1.2.3', '1.2.3')).toBe(0)
})
