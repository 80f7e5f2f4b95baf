import { isAbsolute, join } from 'node:path'

/** Where models, runtimes and compiled graphs are kept unless told otherwise: `$XDG_CACHE_HOME/akidb-embedding`, else
 * `~/.cache/akidb-embedding`. A relative XDG_CACHE_HOME is ignored, as the XDG base directory specification asks. */
export function defaultCacheDir(env: Readonly<Record<string, string | undefined>>, home: string): string {
  const xdg = env['XDG_CACHE_HOME']
  return xdg !== undefined && isAbsolute(xdg)
    ? join(xdg, 'akidb-embedding')
    : join(home, '.cache', 'akidb-embedding')
}
