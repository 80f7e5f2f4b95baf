import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join, relative, resolve, sep } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type Static, Type } from 'typebox'
import { Check } from 'typebox/value'
import { EmbedError, toReason } from '../errors.ts'

const entrySchema = Type.Object({
  path: Type.String(),
  sizeBytes: Type.Number(),
  mtimeMs: Type.Number(),
  sha256: Type.String(),
})
const cacheSchema = Type.Array(entrySchema)
type CacheEntry = Static<typeof entrySchema>

/** Reading a smaller file costs less than keeping its hash. */
const cachedFromBytes = 1 << 20
const maxCacheEntries = 512

/** SHA-256 over the names (relative to `folder`) and contents of `files`, in the order of the names.
 * The hashes of large files are kept in `<cacheDir>/file-hashes.json` by path, size and modification time.
 * @returns 64 hexadecimal digits   @throws {EmbedError} FILE_UNREADABLE */
export async function contentHash(
  folder: string,
  files: readonly string[],
  options: { cacheDir?: string | undefined } = {},
): Promise<string> {
  const cacheFile = options.cacheDir === undefined ? undefined : join(options.cacheDir, 'file-hashes.json')
  const known = cacheFile === undefined ? [] : await readCache(cacheFile)
  const fresh: CacheEntry[] = []
  const lines: string[] = []
  for (const file of files) {
    const path = resolve(file)
    const entry = await hashEntry(path, known)
    if (entry.sizeBytes >= cachedFromBytes && !known.includes(entry)) fresh.push(entry)
    lines.push(`${relative(folder, path).split(sep).join('/')}\0${entry.sha256}\n`)
  }
  if (cacheFile !== undefined && fresh.length > 0) await writeCache(cacheFile, fresh)
  return createHash('sha256').update(lines.sort().join('')).digest('hex')
}

async function hashEntry(path: string, known: readonly CacheEntry[]): Promise<CacheEntry> {
  try {
    const { size: sizeBytes, mtimeMs } = await stat(path)
    const cached = known.find(
      (entry) => entry.path === path && entry.sizeBytes === sizeBytes && entry.mtimeMs === mtimeMs,
    )
    if (cached !== undefined) return cached
    const hash = createHash('sha256')
    await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash)
    return { path, sizeBytes, mtimeMs, sha256: hash.digest('hex') }
  } catch (error) {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(error) }, { cause: error })
  }
}

/** A cache that cannot be read is an empty one: the files are hashed again. */
async function readCache(cacheFile: string): Promise<readonly CacheEntry[]> {
  try {
    const value: unknown = JSON.parse(await readFile(cacheFile, 'utf8'))
    return Check(cacheSchema, value) ? value : []
  } catch {
    return []
  }
}

/** Reads again before it writes, so that two processes seldom drop each other's entries; a lost one is only hashed again.
 * A folder that cannot be written makes the next start slower, no more. */
async function writeCache(cacheFile: string, fresh: readonly CacheEntry[]): Promise<void> {
  const replaced = new Set(fresh.map((entry) => entry.path))
  const kept = (await readCache(cacheFile)).filter((entry) => !replaced.has(entry.path))
  const temporary = `${cacheFile}.${randomUUID()}.tmp`
  try {
    await mkdir(join(cacheFile, '..'), { recursive: true })
    await writeFile(temporary, JSON.stringify([...kept, ...fresh].slice(-maxCacheEntries), null, 1))
    await rename(temporary, cacheFile)
  } catch {
    await rm(temporary, { force: true }).catch(() => {})
  }
}
