import { randomUUID } from 'node:crypto'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { EmbedError } from '../../errors.ts'

export interface FileToWrite {
  readonly path: string
  /** Told when the disk is full. */
  readonly neededBytes: number
  readonly write: (file: FileHandle) => Promise<void>
}

/** Writes files whole or not at all: into temporary files beside them that take their names, in the order given, when
 * all are written. @throws {EmbedError} NO_SPACE; other errors as they are */
export async function writeAtomically(files: readonly FileToWrite[]): Promise<void> {
  const temporaries = files.map(({ path }) => `${path}.${randomUUID()}.tmp`)
  try {
    for (const [i, { path, neededBytes, write }] of files.entries()) {
      await writing(path, neededBytes, async () => {
        const file = await open(temporaries[i]!, 'wx')
        try {
          await write(file)
          // Without it a power cut can leave the name with none of the bytes.
          await file.datasync()
        } finally {
          await file.close()
        }
      })
    }
    for (const [i, { path }] of files.entries()) await rename(temporaries[i]!, path)
  } catch (error) {
    await Promise.all(temporaries.map((temporary) => rm(temporary, { force: true })))
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

async function writing(path: string, neededBytes: number, write: () => Promise<void>): Promise<void> {
  try {
    await write()
  } catch (error) {
    if (isDiskFull(error)) throw new EmbedError('NO_SPACE', { path, neededBytes }, { cause: error })
    throw error
  }
}

function isDiskFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')
}
