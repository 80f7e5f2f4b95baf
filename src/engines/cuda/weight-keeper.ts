/** Writes the cache of FP8 weights when the engine is ready, beside its work: the file serves the next start, and nobody waits
 * for it in this one. */
import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { toReason } from '../../errors.ts'
import type { GpuContext } from '../../hardware/gpu/context.ts'
import type { DeviceBuffer } from '../../hardware/gpu/device-buffer.ts'
import { PinnedBuffer } from '../../hardware/gpu/pinned-buffer.ts'
import { GpuStream } from '../../hardware/gpu/stream.ts'
import { chunkBytes, layOut, makeFooter } from './weight-cache.ts'
import { listWeightFiles } from './weight-files.ts'

/** Copied and written at a time, a part of a chunk: its checksum holds the event loop for 0.2 ms. */
const sliceBytes = 1 << 20
/** One that is being written is younger. */
const abandonedAfterMs = 600_000

export interface WeightKeeperOptions {
  readonly gpu: GpuContext
  /** As weightCachePath gives it. */
  readonly path: string
  /** In the order the model loads them; they must live until the keeper is done. */
  readonly pieces: readonly DeviceBuffer[]
  readonly onNote?: ((note: string) => void) | undefined
}

/** Begins by itself. Disposing gives up what is not whole yet. */
export class WeightKeeper implements AsyncDisposable {
  /** Settles when the file is there, or given up; never rejects: without it the next start is slow, and none fails. */
  readonly done: Promise<void>
  readonly #givenUp = new AbortController()

  constructor({ gpu, path, pieces, onNote }: WeightKeeperOptions) {
    const { signal } = this.#givenUp
    this.done = writeCachedWeights(path, pieces, { gpu, signal }).catch((error: unknown) => {
      if (signal.aborted) return
      onNote?.(
        `cuda: the weights are not kept for the next start (${toReason(error)}), which loads them anew`,
      )
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#givenUp.abort()
    await this.done
  }
}

/** Whole or not at all, also when several processes write at once. No fsync: a file that a power cut left half empty has the
 * wrong checksums. @throws {EmbedError} CUDA_STATUS; errors of the file system and the signal's reason as they are */
export async function writeCachedWeights(
  path: string,
  pieces: readonly DeviceBuffer[],
  { gpu, signal }: { readonly gpu: GpuContext; readonly signal?: AbortSignal },
): Promise<void> {
  const folder = dirname(path)
  await mkdir(folder, { recursive: true })
  // Those of processes that were killed are as large as the weights.
  for (const { isUnfinished, ageMs, path: left } of await listWeightFiles(folder))
    if (isUnfinished && ageMs > abandonedAfterMs) await rm(left, { force: true })
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    const file = await open(temporary, 'wx')
    try {
      await writeAll(file, pieces, { gpu, signal })
    } finally {
      await file.close()
    }
    signal?.throwIfAborted()
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

async function writeAll(
  file: FileHandle,
  pieces: readonly DeviceBuffer[],
  { gpu, signal }: { readonly gpu: GpuContext; readonly signal: AbortSignal | undefined },
): Promise<void> {
  const sizes = pieces.map(({ bytes }) => bytes)
  const { totalBytes, places } = layOut(sizes)
  // Its own, so that a pass waits for no copy.
  using stream = new GpuStream(gpu, 'kept weights')
  using pinned = new PinnedBuffer(gpu, 'kept weights', Math.min(sliceBytes, totalBytes))
  const checksums: number[] = []
  for (let atByte = 0; atByte < totalBytes; atByte += sliceBytes) {
    signal?.throwIfAborted()
    const memory = pinned.uint8(Math.min(sliceBytes, totalBytes - atByte))
    for (const [i, place] of places.entries()) {
      const from = Math.max(place.atByte, atByte)
      const end = Math.min(place.atByte + place.bytes, atByte + memory.length)
      if (from >= end) continue
      stream.copy(pinned, pieces[i]!, {
        bytes: end - from,
        fromByte: from - place.atByte,
        toByte: from - atByte,
      })
    }
    await stream.idle()
    const chunk = Math.floor(atByte / chunkBytes)
    checksums[chunk] = crc32(memory, checksums[chunk])
    await writeAt(file, memory, atByte)
  }
  await writeAt(file, makeFooter(sizes, checksums), totalBytes)
}

async function writeAt(file: FileHandle, bytes: Uint8Array, atByte: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, atByte + done)
    done += bytesWritten
  }
}
