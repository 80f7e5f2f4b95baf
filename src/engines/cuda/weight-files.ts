/** What the cache of FP8 weights holds. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

export interface WeightFile {
  readonly path: string
  readonly sizeBytes: number
  /** Since it was written. */
  readonly ageMs: number
  readonly isUnfinished: boolean
}

/** In the cache folder. */
export const weightsFolderName = 'weights'

/** @param folder the cache folder's `weights`; nothing where there is none */
export async function listWeightFiles(folder: string): Promise<WeightFile[]> {
  const names = await readdir(folder).catch(() => [])
  const files = names.filter((name) => /\.weights(?:$|\..*\.tmp$)/.test(name)).sort()
  return Promise.all(
    files.map(async (name) => {
      const path = join(folder, name)
      const { size, mtimeMs } = await stat(path)
      return {
        path,
        sizeBytes: size,
        ageMs: Date.now() - mtimeMs,
        isUnfinished: name.endsWith('.tmp'),
      }
    }),
  )
}
