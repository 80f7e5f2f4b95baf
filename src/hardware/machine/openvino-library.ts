/** Where OpenVINO's C library is on this machine. */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

export interface OpenvinoLibrary {
  /** Absolute path of libopenvino_c. */
  readonly path: string
  /** From the file's name, e.g. '2026.4.1'; undefined when the name does not tell. */
  readonly version: string | undefined
}

export interface OpenvinoSearch {
  readonly found: OpenvinoLibrary | undefined
  /** Every place looked at, in order, the finding one included. */
  readonly searched: readonly string[]
}

export interface OpenvinoSearchOptions {
  /** A library file, or a folder that holds one; nothing else is looked at when given. */
  readonly explicitPath?: string | undefined
  /** Folders looked at before the system's, e.g. of a downloaded runtime. */
  readonly folders?: readonly string[]
  /** Default: where the system's packages and Intel's installer put it. */
  readonly systemFolders?: readonly string[]
}

/** Looks in: the explicit path alone, or the given folders, the openvino-node package, the system's folders. */
export function findOpenvinoLibrary(options: OpenvinoSearchOptions = {}): OpenvinoSearch {
  const { explicitPath, folders = [], systemFolders = listSystemFolders() } = options
  const places =
    explicitPath === undefined ? [...folders, ...nodePackageFolders(), ...systemFolders] : [explicitPath]
  const searched: string[] = []
  for (const place of places) {
    searched.push(place)
    const path = isFile(place) ? place : findInFolder(place)
    if (path !== undefined) return { found: { path, version: parseLibraryVersion(path) }, searched }
  }
  return { found: undefined, searched }
}

/** 'libopenvino_c.so.2641' and 'libopenvino_c.2641.dylib' -> '2026.4.1' */
export function parseLibraryVersion(path: string): string | undefined {
  const match = /openvino_c\.(?:so\.)?(\d\d)(\d)(\d+)(?:\.dylib)?$/.exec(path)
  return match === null ? undefined : `20${match[1]}.${match[2]}.${match[3]}`
}

const libraryName = /^(libopenvino_c\.so(\.\d+)*|libopenvino_c(\.\d+)?\.dylib|openvino_c\.dll)$/

function findInFolder(folder: string): string | undefined {
  try {
    // The longest name is the versioned file itself, not a link to it.
    const names = readdirSync(folder).filter((name) => libraryName.test(name))
    const name = names.sort((a, b) => b.length - a.length || b.localeCompare(a))[0]
    return name === undefined ? undefined : join(folder, name)
  } catch {
    return undefined
  }
}

function nodePackageFolders(): string[] {
  try {
    return [join(dirname(createRequire(import.meta.url).resolve('openvino-node/package.json')), 'bin')]
  } catch {
    return []
  }
}

function listSystemFolders(): string[] {
  if (process.platform === 'win32') {
    return installations('C:\\Program Files (x86)\\Intel', join('runtime', 'bin', 'intel64', 'Release'))
  }
  if (process.platform === 'darwin') {
    return [
      '/opt/homebrew/lib',
      '/usr/local/lib',
      ...installations('/opt/intel', 'runtime/lib/arm64/Release'),
    ]
  }
  const [triplet, folder] =
    process.arch === 'arm64' ? ['aarch64-linux-gnu', 'aarch64'] : ['x86_64-linux-gnu', 'intel64']
  return [
    `/usr/lib/${triplet}`,
    '/usr/lib64',
    '/usr/local/lib',
    '/usr/lib',
    ...installations('/opt/intel', `runtime/lib/${folder}`),
  ]
}

/** The folder `inside` of every OpenVINO installed under `root`, newest name first. */
function installations(root: string, inside: string): string[] {
  if (!existsSync(root)) return []
  const names = readdirSync(root).filter((name) => name.startsWith('openvino'))
  return names
    .sort()
    .reverse()
    .map((name) => join(root, name, inside))
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true
}
