import { type Stats, unwatchFile, watchFile } from 'node:fs'

/** Calls back when one of the files has changed, been replaced, removed or put back. Asks for their state every
 * `intervalMs` and follows links: inotify would miss network disks and the links that Kubernetes swaps.
 * @returns ends the watch */
export function watchFiles(paths: readonly string[], intervalMs: number, onChange: () => void): () => void {
  const listener = (now: Stats, before: Stats): void => {
    // The first look at a file that is missing is told as well, with both times zero.
    if (now.ctimeMs !== before.ctimeMs || now.ino !== before.ino || now.size !== before.size) onChange()
  }
  for (const path of paths) watchFile(path, { interval: intervalMs, persistent: false }, listener)
  return () => {
    for (const path of paths) unwatchFile(path, listener)
  }
}
