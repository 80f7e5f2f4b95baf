import { open, rename, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { EmbedError, toReason } from '../../errors.ts'

/** A file that grows as `<path>.partial` and gets its name when it is whole. */
export class PartialFile {
  readonly path: string
  readonly partialPath: string
  #handle: FileHandle | undefined
  #bytes: number

  private constructor(path: string, handle: FileHandle, bytes: number) {
    this.path = path
    this.partialPath = toPartialPath(path)
    this.#handle = handle
    this.#bytes = bytes
  }

  /** @param keptBytes how much of an earlier partial file stays; undefined starts a new one
   * @throws {EmbedError} CHECKPOINT_MISMATCH when there is less than that, FILE_UNWRITABLE, NO_SPACE */
  static async open(path: string, keptBytes?: number): Promise<PartialFile> {
    const partialPath = toPartialPath(path)
    try {
      if (keptBytes === undefined) return new PartialFile(path, await open(partialPath, 'w'), 0)
      const handle = await open(partialPath, 'r+')
      const { size } = await handle.stat()
      if (size < keptBytes) {
        await handle.close()
        throw toMissingError(partialPath, `it has ${size} bytes, ${keptBytes} were written`)
      }
      await handle.truncate(keptBytes)
      return new PartialFile(path, handle, keptBytes)
    } catch (error) {
      if (keptBytes !== undefined && isErrno(error, 'ENOENT')) throw toMissingError(partialPath, 'it is gone')
      throw toWriteError(partialPath, error)
    }
  }

  /** Length of the file: bytes that append() has put into it. */
  get bytes(): number {
    return this.#bytes
  }

  /** @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE; the length is then as before */
  async append(bytes: Uint8Array): Promise<void> {
    await this.writeAt(bytes, this.#bytes)
    this.#bytes += bytes.length
  }

  /** @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE */
  async writeAt(bytes: Uint8Array, position: number): Promise<void> {
    try {
      for (let done = 0; done < bytes.length;) {
        const { bytesWritten } = await this.#open().write(bytes, done, bytes.length - done, position + done)
        done += bytesWritten
      }
    } catch (error) {
      throw toWriteError(this.partialPath, error)
    }
  }

  /** All of it is on the disk when this resolves. @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE */
  async sync(): Promise<void> {
    try {
      await this.#open().sync()
    } catch (error) {
      throw toWriteError(this.partialPath, error)
    }
  }

  /** Gives the file its name, in place of an older one. @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE */
  async finish(): Promise<void> {
    await this.sync()
    await this.release()
    try {
      await rename(this.partialPath, this.path)
    } catch (error) {
      throw toWriteError(this.path, error)
    }
    await syncFolder(dirname(this.path))
  }

  /** Closes the file and leaves it under its partial name. */
  async release(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await handle?.close()
  }

  async discard(): Promise<void> {
    await this.release()
    await rm(this.partialPath, { force: true })
  }

  #open(): FileHandle {
    if (!this.#handle) throw new EmbedError('INTERNAL', { reason: `${this.partialPath} is closed` })
    return this.#handle
  }
}

export function toPartialPath(path: string): string {
  return `${path}.partial`
}

/** Writes a small file so that a crash leaves the old one or the new one, never a mixture.
 * @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const file = await PartialFile.open(path)
  try {
    await file.append(bytes)
    await file.finish()
  } catch (error) {
    await file.discard().catch(() => {})
    throw error
  }
}

function toWriteError(path: string, error: unknown): EmbedError {
  if (error instanceof EmbedError) return error
  if (isErrno(error, 'ENOSPC') || isErrno(error, 'EDQUOT') || isErrno(error, 'EFBIG')) {
    const fix = 'free some, then run the same command again to go on'
    return new EmbedError('NO_SPACE', { path, fix }, { cause: error })
  }
  const reason = isErrno(error, 'ENOENT') ? `the folder ${dirname(path)} does not exist` : toReason(error)
  return new EmbedError('FILE_UNWRITABLE', { path, reason, fix: 'choose another output' }, { cause: error })
}

function toMissingError(path: string, reason: string): EmbedError {
  return new EmbedError('CHECKPOINT_MISMATCH', { path, differences: [reason] })
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}

/** A rename is durable once its folder is; systems that cannot open a folder do without. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => {})
  await handle?.sync().catch(() => {})
  await handle?.close()
}
