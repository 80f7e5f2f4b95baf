/** Timings of kernels, shared by all builds of one TensorRT on one chip: a second build of the same shapes is quick. */
import { mkdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { toReason } from '../../errors.ts'
import type { BuilderConfig, TimingCache } from '../../hardware/ffi/tensorrt/builder-config.ts'
import type { TensorrtMachine } from '../../hardware/machine/tensorrt-library.ts'
import { writeAtomically, writeFully } from '../../model/onnx/atomic-file.ts'
import { withLock } from '../../model/pull/lock.ts'
import { toChipName } from './engine-identity.ts'

type Say = (note: string) => void

export function timingCachePath(folder: string, { tensorrt, device }: TensorrtMachine): string {
  return join(folder, `timings-${tensorrt.versionText}-${toChipName(device)}.cache`)
}

/** Gives the builder the timings of `path`, or none when there are none or TensorRT does not take them.
 * @returns what the build adds to, owned by `config` */
export async function useTimingCache(config: BuilderConfig, path: string, say: Say): Promise<TimingCache> {
  const known = await readFile(path).catch(() => undefined)
  if (known !== undefined) {
    try {
      const cache = config.createTimingCache(known)
      config.setTimingCache(cache)
      return cache
    } catch (error) {
      say(`the timings in ${path} are left aside: ${toReason(error)}`)
    }
  }
  const empty = config.createTimingCache()
  config.setTimingCache(empty)
  return empty
}

/** Joins the timings of a build with those that other builds saved meanwhile. A failure costs the next build time, no
 * more. */
export async function saveTimingCache(
  config: BuilderConfig,
  cache: TimingCache,
  path: string,
  say: Say,
): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true })
    await withLock(`${path}.lock`, { maxWaitMs: 60_000 }, async () => {
      const saved = await readFile(path).catch(() => undefined)
      if (saved !== undefined) combine(config, cache, saved)
      using memory = cache.serialize()
      const { bytes } = memory
      await writeAtomically([{ path, neededBytes: bytes.length, write: (file) => writeFully(file, bytes) }])
    })
  } catch (error) {
    say(`the timings of this build were not saved: ${toReason(error)}`)
  }
}

function combine(config: BuilderConfig, cache: TimingCache, saved: Uint8Array): void {
  try {
    using other = config.createTimingCache(saved)
    cache.combine(other)
  } catch {
    // Of no use to TensorRT: replaced.
  }
}
