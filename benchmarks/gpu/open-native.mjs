// What the benchmarks of the native engine start with: NVIDIA's libraries of this machine and the GPU.
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { loadCublaslt } from '../../dist/hardware/ffi/cublaslt.js'
import { loadCuda } from '../../dist/hardware/ffi/cuda.js'
import { loadNvrtc } from '../../dist/hardware/ffi/nvrtc.js'
import { KernelCompiler } from '../../dist/hardware/gpu/compiler.js'
import { openGpu } from '../../dist/hardware/gpu/context.js'
import { DiskCache } from '../../dist/hardware/gpu/disk-cache.js'
import { MatmulLibrary } from '../../dist/hardware/gpu/matmul.js'
import { findCudaLibrary } from '../../dist/hardware/machine/cuda-libraries.js'

/** Opened, as the engine takes them. Looks as doctor does: LD_LIBRARY_PATH, CUDA_HOME, the site-packages of python3, the
 * system's folders. @param {{ cache?: string }} flags */
export function findNativeLibraries({ cache }) {
  const cuda = loadCuda(pathOf('libcuda') ?? 'libcuda.so.1')
  const version = [null]
  cuda.cuDriverGetVersion(version)
  const driverVersion = version[0]
  const cudaMajor = Math.floor(driverVersion / 1000)
  const [nvrtcPath, cublasltPath] = [pathOf('libnvrtc', cudaMajor), pathOf('libcublasLt', cudaMajor)]
  if (nvrtcPath === undefined) throw new Error(findCudaLibrary('libnvrtc', { cudaMajor }).fix)
  const nvrtc = loadNvrtc(nvrtcPath)
  const kernels = cache === undefined ? {} : { cache: new DiskCache(join(cache, 'kernels')) }
  return {
    cuda,
    driverVersion,
    nvrtcPath,
    cublasltPath,
    cublaslt: cublasltPath === undefined ? undefined : loadCublaslt(cublasltPath),
    compilerFor: () => new KernelCompiler(nvrtc, { driverVersion, ...kernels }),
  }
}

/** The GPU, a compiler for it, and cuBLASLt where it is.
 * @param {{ gpu: string, cache?: string, workspaceMib?: number }} flags */
export async function openNative({ gpu: ordinal, cache, workspaceMib = 32 }) {
  const { cuda, driverVersion, nvrtcPath, cublasltPath, cublaslt, compilerFor } = findNativeLibraries({
    cache,
  })
  const gpu = await openGpu(cuda, { ordinal: Number(ordinal) })
  const compiler = compilerFor()
  const matmul =
    cublaslt === undefined
      ? undefined
      : new MatmulLibrary(gpu, cublaslt, { workspaceBytes: workspaceMib << 20 })
  const { name, computeCapability, multiprocessorCount, l2CacheBytes } = gpu.device
  const machine = {
    gpu: name,
    computeCapability: `${computeCapability.major}.${computeCapability.minor}`,
    multiprocessorCount,
    l2CacheBytes,
    cuda: driverVersion / 1000,
    nvrtc: `${compiler.version} ${nvrtcPath}`,
    cublasLt: matmul === undefined ? 'not found' : `${matmul.version} ${cublasltPath}`,
  }
  return { gpu, compiler, matmul, machine }
}

/** @returns undefined where it is not found */
export function pathOf(name, cudaMajor) {
  return findCudaLibrary(name, {
    libraryPath: process.env.LD_LIBRARY_PATH,
    cudaHome: process.env.CUDA_HOME,
    sitePackages: pythonPackages(),
    cudaMajor,
  }).found?.path
}

let packages
function pythonPackages() {
  if (packages !== undefined) return packages
  try {
    const program =
      'import site, sysconfig; print(*{*site.getsitepackages(), sysconfig.get_path("purelib")}, sep="\\n")'
    packages = execFileSync('python3', ['-c', program], { stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim()
      .split('\n')
  } catch {
    packages = []
  }
  return packages
}
