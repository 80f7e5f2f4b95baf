/** Where NVIDIA's libraries are on this machine, and which package brings a missing one. */
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { basename, join } from 'node:path'

export const cudaLibraryNames = [
  'libcuda',
  'libnvidia-ml',
  'libnvinfer',
  'libnvonnxparser',
  'libcublasLt',
  'libnvrtc',
  'libcupti',
] as const
export type CudaLibraryName = (typeof cudaLibraryNames)[number]

export interface CudaLibrary {
  readonly name: CudaLibraryName
  /** What a person calls it. */
  readonly title: string
  readonly found:
    | {
        readonly path: string
        /** As exact as file names and pip's records tell: '580.65.06', '12.8.4.1', '13'. */
        readonly version: string
      }
    | undefined
  /** Every folder looked at, in order. */
  readonly searched: readonly string[]
  /** The packages that bring it. */
  readonly fix: string
}

export interface CudaSearchOptions {
  /** Of LD_LIBRARY_PATH: folders joined by colons. */
  readonly libraryPath?: string | undefined
  readonly cudaHome?: string | undefined
  /** Python's site-packages folders, into which pip puts NVIDIA's libraries. */
  readonly sitePackages?: readonly string[]
  /** Default: where NVIDIA's installers and distributions put them. */
  readonly systemFolders?: readonly string[]
  /** The newest CUDA that the driver runs: libraries of a later major version are left out. */
  readonly cudaMajor?: number | undefined
  /** A Jetson takes its packages from JetPack. Default: what this machine is. */
  readonly isJetson?: boolean
}

interface Source {
  readonly title: string
  /** Matches the file names; the group is the version. */
  readonly file: RegExp
  /** Versioned like CUDA itself. */
  readonly followsCuda: boolean
  /** Name of pip's package without its CUDA suffix; undefined when pip has none. */
  readonly pip?: string
  readonly fix: (cudaMajor: number) => string
}

const tensorrtFix = (cudaMajor: number) =>
  `pip install 'tensorrt-cu${cudaMajor}==10.*', or apt install libnvinfer10 libnvonnxparsers10 from NVIDIA's CUDA repository`
const toolkitFix = (pip: readonly string[], apt: string) => (cudaMajor: number) => {
  const [pipSuffix, aptSuffix] = cudaMajor < 13 ? [`-cu${cudaMajor}`, '12-8'] : ['', '13-0']
  const wheels = pip.map((name) => name + pipSuffix).join(' ')
  return `pip install ${wheels}, or apt install ${apt}-${aptSuffix} from NVIDIA's CUDA repository`
}
const driverFix = () =>
  "install NVIDIA's driver (Ubuntu: apt install nvidia-driver-580; Debian: apt install nvidia-driver), or start the container with --gpus all"

const sources: Readonly<Record<CudaLibraryName, Source>> = {
  libcuda: { title: 'NVIDIA driver', file: /^libcuda\.so\.([\d.]+)$/, followsCuda: false, fix: driverFix },
  'libnvidia-ml': { title: 'NVML', file: /^libnvidia-ml\.so\.([\d.]+)$/, followsCuda: false, fix: driverFix },
  libnvinfer: {
    title: 'TensorRT',
    file: /^libnvinfer\.so\.([\d.]+)$/,
    followsCuda: false,
    pip: 'tensorrt',
    fix: tensorrtFix,
  },
  libnvonnxparser: {
    title: 'TensorRT ONNX parser',
    file: /^libnvonnxparser\.so\.([\d.]+)$/,
    followsCuda: false,
    pip: 'tensorrt',
    fix: tensorrtFix,
  },
  libcublasLt: {
    title: 'cuBLASLt',
    file: /^libcublasLt\.so\.([\d.]+)$/,
    followsCuda: true,
    pip: 'nvidia_cublas',
    fix: toolkitFix(['nvidia-cublas'], 'libcublas'),
  },
  libnvrtc: {
    title: 'NVRTC',
    file: /^libnvrtc\.so\.([\d.]+)$/,
    followsCuda: true,
    pip: 'nvidia_cuda_nvrtc',
    // The headers cuda_fp16.h and cuda_fp8.h come with the runtime.
    fix: toolkitFix(['nvidia-cuda-nvrtc', 'nvidia-cuda-runtime'], 'cuda-nvrtc'),
  },
  libcupti: {
    title: 'CUPTI',
    // The file behind the link counts in years: libcupti.so.2025.3.1.
    file: /^libcupti\.so\.(\d\d)$/,
    followsCuda: true,
    pip: 'nvidia_cuda_cupti',
    fix: toolkitFix(['nvidia-cuda-cupti'], 'cuda-cupti'),
  },
}

const jetpackFix = 'apt install nvidia-jetpack: JetPack brings it on a Jetson'

/** Looks for one library: LD_LIBRARY_PATH, CUDA_HOME, pip's folders, the system's; the first folder wins, in it the
 * newest version. */
export function findCudaLibrary(name: CudaLibraryName, options: CudaSearchOptions = {}): CudaLibrary {
  const source = sources[name]
  const { cudaMajor, sitePackages = [], isJetson = detectJetson() } = options
  const searched: string[] = []
  let found: CudaLibrary['found']
  for (const folder of listFolders(options)) {
    searched.push(folder)
    const file = newestIn(folder, source, cudaMajor)
    if (file === undefined) continue
    found = { path: join(folder, file), version: readVersion(folder, file, source, sitePackages) }
    break
  }
  return {
    name,
    title: source.title,
    found,
    searched,
    fix: isJetson ? jetpackFix : source.fix(cudaMajor ?? 13),
  }
}

/** JetPack leaves this file. */
export function detectJetson(): boolean {
  return existsSync('/etc/nv_tegra_release')
}

/** Parts of a version compared as numbers: 12.10 is newer than 12.9. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a.split('.').map(Number), b.split('.').map(Number)]
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? -1) - (right[i] ?? -1)
    if (difference !== 0) return difference
  }
  return 0
}

function listFolders(options: CudaSearchOptions): string[] {
  const { libraryPath = '', cudaHome, sitePackages = [], systemFolders = listSystemFolders() } = options
  return [
    ...new Set([
      ...libraryPath.split(':').filter((folder) => folder !== ''),
      ...(cudaHome === undefined || cudaHome === '' ? [] : toolkitFolders(cudaHome)),
      ...sitePackages.flatMap(pipFolders),
      ...systemFolders,
    ]),
  ]
}

/** `nvidia/cublas/lib`, `nvidia/cu13/lib`, …, and TensorRT's own. */
function pipFolders(sitePackages: string): string[] {
  const nvidia = join(sitePackages, 'nvidia')
  const packages = list(nvidia).map((name) => join(nvidia, name, 'lib'))
  return [...packages, join(sitePackages, 'tensorrt_libs')].filter((folder) => existsSync(folder))
}

function toolkitFolders(root: string): string[] {
  const target = process.arch === 'arm64' ? 'sbsa-linux' : 'x86_64-linux'
  return [join(root, 'lib64'), join(root, 'targets', target, 'lib'), join(root, 'extras', 'CUPTI', 'lib64')]
}

function listSystemFolders(): string[] {
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu'
  const toolkits = list('/usr/local').filter((name) => /^cuda(-[\d.]+)?$/.test(name))
  // 'cuda', the one chosen by the administrator, stands before 'cuda-13.0'.
  const inOrder = toolkits.sort((a, b) => a.length - b.length || b.localeCompare(a))
  return [
    `/usr/lib/${triplet}`,
    // JetPack's driver.
    `/usr/lib/${triplet}/nvidia`,
    `/usr/lib/${triplet}/tegra`,
    // Containers and WSL.
    '/usr/local/nvidia/lib64',
    '/usr/lib/wsl/lib',
    '/usr/lib64',
    '/usr/lib',
    ...inOrder.flatMap((name) => toolkitFolders(join('/usr/local', name))),
    '/usr/local/lib',
  ]
}

function newestIn(folder: string, source: Source, cudaMajor: number | undefined): string | undefined {
  const versionOf = (file: string) => source.file.exec(file)![1]!
  return list(folder)
    .filter((file) => source.file.test(file))
    .filter(
      (file) =>
        !source.followsCuda || cudaMajor === undefined || Number.parseInt(versionOf(file), 10) <= cudaMajor,
    )
    .sort((a, b) => compareVersions(versionOf(b), versionOf(a)))[0]
}

/** The longest of: the name, the name behind a link, what pip wrote down for the same major version. */
function readVersion(folder: string, file: string, source: Source, sitePackages: readonly string[]): string {
  const named = source.file.exec(file)![1]!
  const linked = source.file.exec(basename(realpathSync(join(folder, file))))?.[1]
  const root = sitePackages.find((each) => folder.startsWith(join(each, '/')))
  const recorded = root === undefined ? undefined : findPipVersion(root, source.pip, named)
  return [named, linked, recorded]
    .filter((version) => version !== undefined)
    .reduce((best, version) => (version.length > best.length ? version : best))
}

/** 'nvidia_cublas_cu12-12.8.4.1.dist-info' -> '12.8.4.1' */
function findPipVersion(sitePackages: string, pip: string | undefined, major: string): string | undefined {
  if (pip === undefined) return undefined
  const record = new RegExp(
    `^${pip}(?:_cu\\d+)?(?:_libs)?-(${major}\\.[\\d.]+?)(?:\\.post\\d+)?\\.dist-info$`,
  )
  return list(sitePackages).flatMap((name) => record.exec(name)?.[1] ?? [])[0]
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
