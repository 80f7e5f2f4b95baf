import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { EmbedError } from '../../errors.ts'

/** SHA-256 of a file, lower-case hex. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>)
    hash.update(chunk)
  return hash.digest('hex')
}

/** @param expected SHA-256, lower-case hex
 * @throws {EmbedError} CHECKSUM_MISMATCH, after removing the file */
export async function verifyFile(path: string, expected: string): Promise<void> {
  const actual = await hashFile(path)
  if (actual === expected) return
  await rm(path, { force: true })
  throw new EmbedError('CHECKSUM_MISMATCH', { file: path, expected, actual })
}
