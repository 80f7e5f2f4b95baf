/** Files that cost time to make and can be made again: compiled kernels, measured algorithms. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const digestBytes = 32

export class DiskCache {
  readonly folder: string
  /** Why the last write failed: the cache is then a slow start, never a failed one. */
  writeError: unknown

  constructor(folder: string) {
    this.folder = folder
  }

  /** @param key what the content depends on, all of it
   * @returns the content; undefined when there is none, or when what is there is not what was written */
  async read(key: unknown): Promise<Uint8Array | undefined> {
    const file = await readFile(this.#pathOf(key)).catch(() => undefined)
    if (file === undefined || file.length < digestBytes) return undefined
    const content = file.subarray(digestBytes)
    return digest(content).equals(file.subarray(0, digestBytes)) ? content : undefined
  }

  /** Whole or not at all, also when several processes write at once. */
  async write(key: unknown, content: Uint8Array): Promise<void> {
    const path = this.#pathOf(key)
    const temporary = `${path}.${randomUUID()}.tmp`
    try {
      await mkdir(this.folder, { recursive: true })
      await writeFile(temporary, Buffer.concat([digest(content), content]))
      await rename(temporary, path)
      this.writeError = undefined
    } catch (error) {
      this.writeError = error
      await rm(temporary, { force: true }).catch(() => undefined)
    }
  }

  #pathOf(key: unknown): string {
    return join(this.folder, digest(Buffer.from(JSON.stringify(key))).toString('hex'))
  }
}

function digest(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest()
}
