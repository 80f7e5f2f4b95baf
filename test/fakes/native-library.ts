/** Compiles a C source of test/fakes/native/ into a shared library, for tests of the bindings. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const compiler = ['gcc', 'cc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0)

/** False where no C compiler is: tests of native bindings are then skipped by name. */
export const canCompile = compiler !== undefined

/** @param defines e.g. { TENSORRT_VERSION: 100600 }
 * @returns the path of the library, in a folder that goes when the process ends */
export function compileNative(source: string, defines: Readonly<Record<string, number>> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'akidb-native-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, `lib${source}.so`)
  const input = fileURLToPath(new URL(`native/${source}.c`, import.meta.url))
  const flags = Object.entries(defines).map(([name, value]) => `-D${name}=${value}`)
  execFileSync(
    compiler!,
    ['-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-pthread', ...flags, '-o', path, input, '-lm'],
    { stdio: 'pipe' },
  )
  return path
}
