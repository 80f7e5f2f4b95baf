/** Which shared libraries this process has really opened: what was asked for and what came can differ. */
import { readFileSync } from 'node:fs'

/** Paths of the shared libraries in memory, each once; empty where the system does not tell.
 * @param maps in the form of Linux's /proc/self/maps */
export function listLoadedLibraries(maps: string = readMaps()): string[] {
  const paths = [...maps.matchAll(/^\S+ \S+ \S+ \S+ \S+ +(\/.*\.so(?:\.[\d.]+)?)$/gm)].map(
    ([, path]) => path!,
  )
  return [...new Set(paths)].sort()
}

function readMaps(): string {
  try {
    return readFileSync('/proc/self/maps', 'utf8')
  } catch {
    return ''
  }
}
