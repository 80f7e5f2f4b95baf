/** Where this user's environment says NVIDIA's libraries may be. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { CudaSearchOptions } from '../hardware/machine/cuda-libraries.ts'
import type { CommandInput } from './command.ts'

export function chooseCudaSearch({
  environment,
  home,
}: Pick<CommandInput, 'environment' | 'home'>): CudaSearchOptions {
  const prefixes = [
    environment['VIRTUAL_ENV'],
    environment['CONDA_PREFIX'],
    join(home, '.local'),
    '/usr/local',
  ]
  return {
    libraryPath: environment['LD_LIBRARY_PATH'],
    cudaHome: environment['CUDA_HOME'] ?? environment['CUDA_PATH'],
    sitePackages: prefixes.flatMap((prefix) => (prefix === undefined ? [] : sitePackagesOf(prefix))),
  }
}

/** `lib/python3.12/site-packages`, and Debian's `dist-packages`. */
function sitePackagesOf(prefix: string): string[] {
  const lib = join(prefix, 'lib')
  try {
    const pythons = readdirSync(lib).filter((name) => name.startsWith('python3'))
    return pythons.flatMap((python) =>
      readdirSync(join(lib, python))
        .filter((name) => name === 'site-packages' || name === 'dist-packages')
        .map((name) => join(lib, python, name)),
    )
  } catch {
    return []
  }
}
