import { mkdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { EmbedError } from '../../errors.ts'
import { type FilledFolder, fillOnce } from './complete-marker.ts'
import { toWriteError } from './file-error.ts'
import { unzip } from './unzip.ts'
import { type WheelOptions, type WheelPin, downloadWheel } from './wheel.ts'

export const openvinoVersion = '2026.4.1'

export const openvinoArchitectures = ['x64', 'arm64'] as const
export type OpenvinoArchitecture = (typeof openvinoArchitectures)[number]

/** The machine that the libraries are for. */
export interface RuntimeHost {
  readonly platform: NodeJS.Platform
  readonly arch: string
  /** E.g. '2.36'; undefined where the C library is another one (musl). */
  readonly glibcVersion: string | undefined
}

export interface OpenvinoRuntimePin {
  readonly wheel: WheelPin
  /** What the wheel's libraries are linked against. */
  readonly minGlibcVersion: string
  /** File names that must be there afterwards; all found in openvino/libs of the wheel. */
  readonly libraries: readonly string[]
}

// The libraries are the same in the wheel of every Python version: 3.12 is as good as any.
const pins: Readonly<Record<OpenvinoArchitecture, OpenvinoRuntimePin>> = {
  x64: {
    wheel: {
      name: 'openvino',
      version: openvinoVersion,
      sha256: '6b4375c17ddcac83a5180349e2e2bb811185c261066e2a920659892d58ef0e3b',
      sizeBytes: 59_144_434,
      target: { pythonVersion: '3.12', abi: 'cp312', platform: 'manylinux_2_28_x86_64' },
    },
    minGlibcVersion: '2.28',
    libraries: toLibraries('libopenvino_intel_cpu_plugin.so'),
  },
  arm64: {
    wheel: {
      name: 'openvino',
      version: openvinoVersion,
      sha256: '82efccb2f9f1bdc7e5a1996e05a3b719ebff9232dd54b44150d6d2e983a86b7d',
      sizeBytes: 30_332_437,
      target: { pythonVersion: '3.12', abi: 'cp312', platform: 'manylinux_2_35_aarch64' },
    },
    minGlibcVersion: '2.35',
    libraries: toLibraries('libopenvino_arm_cpu_plugin.so'),
  },
}

export interface PullRuntimeOptions extends WheelOptions {
  readonly cacheDir: string
  /** Default: this process's. */
  readonly arch?: OpenvinoArchitecture
  /** No network: only what is in the cache. */
  readonly offline?: boolean
  /** Default: this machine. */
  readonly host?: RuntimeHost
}

/** Where the libraries of this version lie, whether they are there or not. */
export function openvinoRuntimeFolder(cacheDir: string, arch: OpenvinoArchitecture): string {
  return join(cacheDir, 'runtimes', `openvino-${openvinoVersion}-linux-${arch}`)
}

/** Where pullOpenvinoRuntime puts the libraries for this processor; none where it has no build. */
export function openvinoRuntimeFolders(cacheDir: string): string[] {
  return openvinoArchitectures
    .filter((arch) => arch === process.arch)
    .map((arch) => openvinoRuntimeFolder(cacheDir, arch))
}

/** Puts OpenVINO's CPU libraries (88 MB on x64) into the cache, once, from the pinned wheel.
 * @returns the folder that holds libopenvino_c.so.* and what it needs
 * @throws {EmbedError} ENGINE_UNAVAILABLE (no build for this machine), OFFLINE, CACHE_LOCKED, and what downloadWheel
 *   and unzip throw */
export async function pullOpenvinoRuntime(options: PullRuntimeOptions): Promise<string> {
  const host = options.host ?? thisHost()
  const arch = options.arch ?? toArchitecture(host)
  const folder = openvinoRuntimeFolder(options.cacheDir, arch)
  assertRuns(pins[arch], host)
  await installRuntime(pins[arch], folder, options)
  return folder
}

/** pullOpenvinoRuntime for a given pin and folder. */
export async function installRuntime(
  pin: OpenvinoRuntimePin,
  folder: string,
  options: WheelOptions & { readonly offline?: boolean },
): Promise<void> {
  const fill = async (): Promise<FilledFolder> => {
    if (options.offline === true)
      throw new EmbedError('OFFLINE', { wanted: `the OpenVINO runtime ${openvinoVersion}` })
    const workFolder = `${folder}.work`
    try {
      for (const path of [workFolder, folder]) await rm(path, { recursive: true, force: true })
      await mkdir(folder, { recursive: true })
      const wheel = await downloadWheel(pin.wheel, workFolder, options)
      const files = await unzip(wheel, folder, {
        signal: options.signal,
        choose: (entry) => {
          const name = basename(entry)
          return entry === `openvino/libs/${name}` && pin.libraries.includes(name) ? name : undefined
        },
        onEntry: (file, sizeBytes) =>
          options.onProgress?.({ file, phase: 'unpack', receivedBytes: sizeBytes, totalBytes: sizeBytes }),
      })
      const missing = pin.libraries.filter((library) => !files.includes(library))
      if (missing.length > 0)
        throw new EmbedError('MODEL_FILE_CORRUPT', {
          file: wheel,
          reason: `it holds no ${missing.join(', ')}`,
        })
      return { source: 'pypi', revision: `${pin.wheel.name} ${pin.wheel.version}`, files }
    } catch (error) {
      throw toWriteError(error, folder)
    } finally {
      await rm(workFolder, { recursive: true, force: true })
    }
  }
  await fillOnce(folder, fill, { signal: options.signal })
}

function toLibraries(plugin: string): readonly string[] {
  // The suffix is OpenVINO's for 2026.4.1.
  const versioned = ['libopenvino.so', 'libopenvino_c.so', 'libopenvino_onnx_frontend.so']
  return [...versioned.map((name) => `${name}.2641`), plugin, 'libtbb.so.12']
}

function toArchitecture(host: RuntimeHost): OpenvinoArchitecture {
  const arch = openvinoArchitectures.find((known) => known === host.arch)
  if (arch === undefined) throw toUnavailable(`there is no build for ${host.platform} on ${host.arch}`)
  return arch
}

function assertRuns(pin: OpenvinoRuntimePin, host: RuntimeHost): void {
  if (host.platform !== 'linux') throw toUnavailable(`its libraries are for Linux, this is ${host.platform}`)
  if (host.glibcVersion === undefined)
    throw toUnavailable('its libraries need glibc, this system has another C library (musl)')
  if (toNumber(host.glibcVersion) < toNumber(pin.minGlibcVersion))
    throw toUnavailable(
      `its libraries need glibc ${pin.minGlibcVersion}, this system has ${host.glibcVersion}`,
    )
}

/** '2.36' -> 2036 */
function toNumber(version: string): number {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major * 1000 + minor
}

function toUnavailable(reason: string): EmbedError {
  return new EmbedError('ENGINE_UNAVAILABLE', { engine: 'openvino', reason, fix: 'use --engine onnx' })
}

function thisHost(): RuntimeHost {
  return { platform: process.platform, arch: process.arch, glibcVersion: readGlibcVersion() }
}

function readGlibcVersion(): string | undefined {
  // With the network in it the report resolves the names of open connections, which can take seconds. Not in the type, hence assign.
  const previous: unknown = Reflect.get(process.report, 'excludeNetwork')
  Object.assign(process.report, { excludeNetwork: true })
  const content: unknown = process.report.getReport()
  Object.assign(process.report, { excludeNetwork: previous })
  if (typeof content !== 'object' || content === null || !('header' in content)) return undefined
  const { header } = content
  if (typeof header !== 'object' || header === null || !('glibcVersionRuntime' in header)) return undefined
  return String(header.glibcVersionRuntime)
}
