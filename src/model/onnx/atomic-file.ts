import { randomUUID } from 'node:crypto'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { EmbedError } from '../../errors.ts'

/** Writes `path` whole or not at all: into a temporary file beside it that takes its name at the end.
 * @param neededBytes told when the disk is full   @throws {EmbedError} NO_SPACE; other errors as they are */
export async function writeAtomically(
  path: string,
  neededBytes: number,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`
  try {
    const file = await open(temporary, 'wx')
    try {
      await write(file)
      // Without it a power cut can leave the name with none of the bytes.
      await file.datasync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    if (isDiskFull(error)) throw new EmbedError('NO_SPACE', { path, neededBytes }, { cause: error })
    throw error
  }
}

/** write() may take a part; this goes on until all is written. */
export async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, written, Math.min(bytes.length - written, 1 << 30))
    written += bytesWritten
  }
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')
}
