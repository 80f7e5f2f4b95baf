import { defaultCacheDir } from '../model/cache-dir.ts'
import type { CommandInput } from './command.ts'

/** --cache-dir, else the XDG place. */
export function chooseCacheDir({ config, environment, home }: CommandInput): string {
  return config.cacheDir ?? defaultCacheDir(environment, home)
}
