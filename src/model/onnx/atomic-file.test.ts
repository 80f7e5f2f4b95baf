import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { writeAtomically, writeFully } from './atomic-file.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'atomic-'))
})
afterEach(() => rm(folder, { recursive: true }))

test('the file has its name only when it is whole', async () => {
  const path = join(folder, 'out')
  await writeAtomically(path, 3, async (file) => {
    await writeFully(file, Buffer.from('abc'))
    expect(await readdir(folder)).not.toContain('out')
  })
  expect(await readFile(path, 'utf8')).toBe('abc')
  expect(await readdir(folder)).toEqual(['out'])
})

test('a full disk is NO_SPACE, leaves the old file and no rest', async () => {
  const path = join(folder, 'out')
  await writeFile(path, 'old')
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  const write = writeAtomically(path, 12_345, async (file) => {
    await writeFully(file, Buffer.from('half'))
    throw full
  })
  await expect(write).rejects.toMatchObject({
    code: 'NO_SPACE',
    details: { path, neededBytes: 12_345 },
    cause: full,
  })
  expect(await readFile(path, 'utf8')).toBe('old')
  expect(await readdir(folder)).toEqual(['out'])
})

test('another error passes as it is', async () => {
  const path = join(folder, 'out')
  const failure = new RangeError('made here')
  await expect(writeAtomically(path, 1, () => Promise.reject(failure))).rejects.toBe(failure)
  expect(await readdir(folder)).toEqual([])
})
