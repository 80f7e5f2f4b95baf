import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { contentHash } from './content-hash.ts'

let folder: string
let cacheDir: string
let large: string
let small: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'content-hash-'))
  cacheDir = join(folder, 'cache')
  large = join(folder, 'model.safetensors')
  small = join(folder, 'config.json')
  await writeFile(large, Buffer.alloc(1 << 20, 1))
  await writeFile(small, '{}')
})
afterEach(() => rm(folder, { recursive: true }))

const cacheFile = () => join(cacheDir, 'file-hashes.json')

test('the hash depends on the contents and the names, not on the order or the place', async () => {
  const hash = await contentHash(folder, [large, small])
  expect(hash).toMatch(/^[0-9a-f]{64}$/)
  expect(await contentHash(folder, [small, large])).toBe(hash)
  const moved = join(folder, 'moved')
  await mkdir(moved)
  await copyFile(large, join(moved, 'model.safetensors'))
  await copyFile(small, join(moved, 'config.json'))
  expect(await contentHash(moved, [join(moved, 'model.safetensors'), join(moved, 'config.json')])).toBe(hash)
  await copyFile(small, join(folder, 'other.json'))
  expect(await contentHash(folder, [large, join(folder, 'other.json')])).not.toBe(hash)
  await writeFile(small, '{ }')
  expect(await contentHash(folder, [large, small])).not.toBe(hash)
})

test('a large file is hashed once while its size and time stay', async () => {
  // A whole second, so that setting it again gives the same value on every file system.
  const time = new Date(1_700_000_000_000)
  await utimes(large, time, time)
  const hash = await contentHash(folder, [large, small], { cacheDir })
  expect(hash).toBe(await contentHash(folder, [large, small]))
  const entries: unknown = JSON.parse(await readFile(cacheFile(), 'utf8'))
  expect(entries).toEqual([expect.objectContaining({ path: large, sizeBytes: 1 << 20 })])
  // Other bytes behind the same size and time: only the cache can still give the old hash.
  await writeFile(large, Buffer.alloc(1 << 20, 2))
  await utimes(large, time, time)
  expect(await contentHash(folder, [large, small], { cacheDir })).toBe(hash)
  await utimes(large, time, new Date(time.getTime() + 1000))
  expect(await contentHash(folder, [large, small], { cacheDir })).not.toBe(hash)
  expect(await readdir(cacheDir)).toEqual(['file-hashes.json'])
})

test.each(['', '{', '[{"path":1}]', '{}'])('a damaged cache %j is written anew', async (text) => {
  const hash = await contentHash(folder, [large], { cacheDir })
  await writeFile(cacheFile(), text)
  expect(await contentHash(folder, [large], { cacheDir })).toBe(hash)
  expect(JSON.parse(await readFile(cacheFile(), 'utf8'))).toHaveLength(1)
})

test('a cache that cannot be written costs time, nothing else', async () => {
  const notAFolder = join(folder, 'file')
  await writeFile(notAFolder, '')
  const hash = await contentHash(folder, [large])
  expect(await contentHash(folder, [large], { cacheDir: join(notAFolder, 'cache') })).toBe(hash)
})

test('a file that is not there is unreadable', async () => {
  const path = join(folder, 'none')
  await expect(contentHash(folder, [path])).rejects.toMatchObject({
    code: 'FILE_UNREADABLE',
    details: { path },
  })
})
