import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type FileToWrite, writeAtomically, writeFully } from './atomic-file.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'atomic-'))
})
afterEach(() => rm(folder, { recursive: true }))

function toWrite(name: string, write: FileToWrite['write'], neededBytes = 1): FileToWrite {
  return { path: join(folder, name), neededBytes, write }
}

test('files have their names only when all are whole', async () => {
  const names = async () => (await readdir(folder)).filter((name) => !name.endsWith('.tmp'))
  await writeAtomically([
    toWrite('data', (file) => writeFully(file, Buffer.from('abc'))),
    toWrite('model', async (file) => {
      await writeFully(file, Buffer.from('de'))
      expect(await names()).toEqual([])
    }),
  ])
  expect((await readdir(folder)).sort()).toEqual(['data', 'model'])
  expect(await readFile(join(folder, 'data'), 'utf8')).toBe('abc')
  expect(await readFile(join(folder, 'model'), 'utf8')).toBe('de')
})

test('a full disk is NO_SPACE, leaves the old files and no rest', async () => {
  const path = join(folder, 'model')
  await writeFile(path, 'old')
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  const write = writeAtomically([
    toWrite('data', (file) => writeFully(file, Buffer.from('whole'))),
    toWrite(
      'model',
      async (file) => {
        await writeFully(file, Buffer.from('half'))
        throw full
      },
      12_345,
    ),
  ])
  await expect(write).rejects.toMatchObject({
    code: 'NO_SPACE',
    details: { path, neededBytes: 12_345 },
    cause: full,
  })
  expect(await readFile(path, 'utf8')).toBe('old')
  expect(await readdir(folder)).toEqual(['model'])
})

test('another error passes as it is', async () => {
  const failure = new RangeError('made here')
  await expect(writeAtomically([toWrite('out', () => Promise.reject(failure))])).rejects.toBe(failure)
  expect(await readdir(folder)).toEqual([])
})
