import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type FilledFolder, fillOnce, readComplete } from './complete-marker.ts'

let root = ''
let folder = ''
let fills = 0

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'marker-'))
  folder = join(root, 'model')
  fills = 0
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function fill(): Promise<FilledFolder> {
  fills++
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'a'), 'alpha')
  await sleep(20)
  return { source: 'hub', revision: 'abc', files: ['a'] }
}

const marker = { source: 'hub', revision: 'abc', files: [{ path: 'a', sizeBytes: 5 }] }

test('fills once, then finds it', async () => {
  expect(await readComplete(folder)).toBeUndefined()
  expect(await fillOnce(folder, fill)).toEqual({ marker, wasThere: false })
  expect(await readComplete(folder)).toEqual(marker)
  expect(await fillOnce(folder, fill)).toEqual({ marker, wasThere: true })
  expect(fills).toBe(1)
  expect(await readdir(root)).toEqual(['model'])
})

test('who comes second waits and uses the result', async () => {
  const results = await Promise.all([fillOnce(folder, fill), fillOnce(folder, fill), fillOnce(folder, fill)])
  expect(fills).toBe(1)
  expect(results.filter((result) => result.wasThere)).toHaveLength(2)
})

test.each([
  ['a file is gone', () => rm(join(folder, 'a'))],
  ['a file has another size', () => writeFile(join(folder, 'a'), 'alph')],
  ['the marker is cut', () => writeFile(join(folder, '.complete'), '{"source":"hub"')],
  ['the marker has another shape', () => writeFile(join(folder, '.complete'), '{"source":"hub","files":[]}')],
])('is filled again when %s', async (_what, damage) => {
  await fillOnce(folder, fill)
  await damage()
  expect(await readComplete(folder)).toBeUndefined()
  expect((await fillOnce(folder, fill)).wasThere).toBe(false)
  expect(fills).toBe(2)
})

test('a fill that fails leaves no marker, not even an old one, and frees the lock', async () => {
  await fillOnce(folder, fill)
  await rm(join(folder, 'a'))
  const broken = async (): Promise<FilledFolder> => {
    await writeFile(join(folder, 'a'), 'alpha')
    throw new Error('cut')
  }
  await expect(fillOnce(folder, broken)).rejects.toThrow('cut')
  expect(existsSync(join(folder, '.complete'))).toBe(false)
  expect(existsSync(`${folder}.lock`)).toBe(false)
})
