import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { createZip } from '../../../test/fakes/zip.ts'
import { unzip } from './unzip.ts'

let folder = ''
let archive = ''
let destination = ''

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'unzip-'))
  archive = join(folder, 'a.zip')
  destination = join(folder, 'out')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const all = { choose: (entry: string): string => entry }

test('unpacks the chosen entries only, under the chosen names', async () => {
  await writeFile(archive, createZip({ 'lib/': '', 'lib/a.txt': 'alpha', 'lib/b.txt': 'beta' }))
  const sizes: unknown[] = []
  const written = await unzip(archive, destination, {
    choose: (entry) => (entry === 'lib/b.txt' ? 'deep/b' : undefined),
    onEntry: (path, sizeBytes) => sizes.push([path, sizeBytes]),
  })
  expect(written).toEqual(['deep/b'])
  expect(sizes).toEqual([['deep/b', 4]])
  expect(await readFile(join(destination, 'deep', 'b'), 'utf8')).toBe('beta')
  expect(existsSync(join(destination, 'lib'))).toBe(false)
})

test.each(['../evil', '/evil', 'a/../../evil', 'a\\..\\..\\evil'])(
  'refuses the entry name %s',
  async (name) => {
    await writeFile(archive, createZip({ [name]: 'x' }))
    const error = await failureOf(unzip(archive, destination, all))
    expect(error.code).toBe('MODEL_FILE_CORRUPT')
    expect(existsSync(join(folder, 'evil'))).toBe(false)
  },
)

test('refuses a mapping that leaves the folder', async () => {
  await writeFile(archive, createZip({ good: 'x' }))
  const error = await failureOf(unzip(archive, destination, { choose: () => '../evil' }))
  expect(error.message).toContain('leaves the folder')
  expect(existsSync(join(folder, 'evil'))).toBe(false)
})

test('a broken archive is MODEL_FILE_CORRUPT', async () => {
  const whole = createZip({ 'a.txt': 'alpha'.repeat(100) })
  await writeFile(archive, whole.subarray(0, 60))
  expect((await failureOf(unzip(archive, destination, all))).code).toBe('MODEL_FILE_CORRUPT')
  const damaged = Buffer.from(whole)
  damaged.fill(0xff, 36, 44)
  await writeFile(archive, damaged)
  expect((await failureOf(unzip(archive, destination, all))).code).toBe('MODEL_FILE_CORRUPT')
})

test('an abort is REQUEST_CANCELLED', async () => {
  await writeFile(archive, createZip({ a: 'x' }))
  const error = await failureOf(unzip(archive, destination, { ...all, signal: AbortSignal.abort() }))
  expect(error.code).toBe('REQUEST_CANCELLED')
})
