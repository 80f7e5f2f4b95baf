import { createWriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, isAbsolute, join, relative } from 'node:path'
import { pipeline } from 'node:stream/promises'
import yauzl from 'yauzl'
import { EmbedError, toReason } from '../../errors.ts'
import { toWriteError } from './file-error.ts'

export interface UnzipOptions {
  /** The path below the destination for an entry of the archive, undefined to leave it out. */
  readonly choose: (entryName: string) => string | undefined
  readonly signal?: AbortSignal | undefined
  readonly onEntry?: (path: string, sizeBytes: number) => void
}

/** Unpacks chosen entries of a zip file (a wheel is one), streamed; nothing is ever written outside the destination.
 * @returns the paths written, relative to the destination, with '/'
 * @throws {EmbedError} MODEL_FILE_CORRUPT, NO_SPACE, FILE_UNWRITABLE, REQUEST_CANCELLED */
export async function unzip(archive: string, destination: string, options: UnzipOptions): Promise<string[]> {
  const written: string[] = []
  try {
    const zip = await yauzl.openPromise(archive, { lazyEntries: true })
    try {
      for await (const entry of zip.eachEntry()) {
        const path = entry.fileName.endsWith('/') ? undefined : options.choose(entry.fileName)
        if (path === undefined) continue
        const target = join(destination, path)
        assertInside(archive, destination, target, entry.fileName)
        options.onEntry?.(path, entry.uncompressedSize)
        await mkdir(dirname(target), { recursive: true })
        // Nothing may wait between here and the pipeline: the stream flows already, and its error would find no listener.
        const content = await zip.openReadStreamPromise(entry)
        await pipeline(content, createWriteStream(target, { flush: true }), toSignal(options.signal))
        written.push(path)
      }
    } finally {
      zip.close()
    }
  } catch (error) {
    throw toUnzipError(error, archive, destination, options.signal)
  }
  return written
}

// yauzl refuses names with '..' and absolute ones; a mapping by `choose` is checked all the same.
function assertInside(archive: string, destination: string, target: string, entryName: string): void {
  const path = relative(destination, target)
  if (
    path !== '' &&
    path !== '..' &&
    !path.startsWith('../') &&
    !path.startsWith('..\\') &&
    !isAbsolute(path)
  )
    return
  throw new EmbedError('MODEL_FILE_CORRUPT', {
    file: archive,
    reason: `the entry ${entryName} leaves the folder`,
  })
}

function toSignal(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal }
}

function toUnzipError(
  error: unknown,
  archive: string,
  destination: string,
  signal?: AbortSignal,
): EmbedError {
  if (signal?.aborted === true) return new EmbedError('REQUEST_CANCELLED', {}, { cause: signal.reason })
  const isFromSystem = error instanceof Error && 'syscall' in error
  if (error instanceof EmbedError || isFromSystem) return toWriteError(error, destination)
  return new EmbedError('MODEL_FILE_CORRUPT', { file: archive, reason: toReason(error) }, { cause: error })
}
