import { stat } from 'node:fs/promises'

/** What tells a changed, replaced, removed or put back file from the one before; follows links. */
export async function describeFiles(paths: readonly string[]): Promise<string> {
  const states = paths.map(async (path) => {
    const found = await stat(path).catch(() => undefined)
    return found === undefined ? 'none' : `${found.ino} ${found.size} ${found.ctimeMs}`
  })
  return (await Promise.all(states)).join('\n')
}

/** Calls back when one of the files is no longer as it was described before it was read. Asks for their state every
 * `intervalMs`: inotify would miss network disks and the links that Kubernetes swaps, fs.watchFile what changes between
 * the reading and its first look.
 * @returns ends the watch */
export function watchFiles(
  paths: readonly string[],
  { intervalMs, described }: { intervalMs: number; described: string },
  onChange: () => void,
): () => void {
  let before = described
  let isLooking = false
  let isEnded = false
  const look = async (): Promise<void> => {
    if (isLooking) return
    isLooking = true
    const now = await describeFiles(paths)
    isLooking = false
    if (isEnded || now === before) return
    before = now
    onChange()
  }
  const timer = setInterval(() => void look(), intervalMs).unref()
  return () => {
    isEnded = true
    clearInterval(timer)
  }
}
