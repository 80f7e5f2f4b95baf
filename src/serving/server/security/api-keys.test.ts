import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failureOf } from '../../../../test/fakes/failure.ts'
import { ApiKeys } from './api-keys.ts'

let folder: string
beforeAll(async () => (folder = await mkdtemp(join(tmpdir(), 'akidb-keys-'))))
afterAll(() => rm(folder, { recursive: true }))

const fileOf = async (text: string): Promise<string> => {
  const path = join(folder, 'keys')
  await writeFile(path, text)
  return path
}

describe('ApiKeys', () => {
  it('knows the key of the configuration and those of the file, whole and nothing else', async () => {
    const apiKeysFile = await fileOf('\ufeff# team a\r\nfirst-key\r\n\n  second-key  \n#third-key\n')
    const keys = new ApiKeys()
    await keys.load({ apiKey: 'own-key', apiKeysFile })
    expect(keys.count).toBe(3)
    for (const key of ['own-key', 'first-key', 'second-key']) expect(keys.includes(key), key).toBe(true)
    for (const key of ['', 'own', 'own-key ', 'Own-key', 'third-key', '#third-key', '# team a']) {
      expect(keys.includes(key), key).toBe(false)
    }
  })

  it('has none without configuration', async () => {
    const keys = new ApiKeys()
    await keys.load({})
    expect([keys.count, keys.includes('')]).toEqual([0, false])
  })

  it.each([
    ['# nothing\n\n', 'API_KEYS_INVALID', 'it holds no key'],
    ['', 'API_KEYS_INVALID', 'it holds no key'],
    ['good\nsecret words\n', 'API_KEYS_INVALID', 'line 2'],
    ['gehe\u00efm', 'API_KEYS_INVALID', 'line 1'],
  ])('refuses the file %j, does not show keys and keeps those of before', async (text, code, message) => {
    const keys = new ApiKeys()
    await keys.load({ apiKey: 'before' })
    const error = await failureOf(keys.load({ apiKeysFile: await fileOf(text) }))
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(message)])
    expect(error.message).not.toMatch(/secret|gehe/)
    expect([keys.count, keys.includes('before')]).toEqual([1, true])
  })

  it('refuses a missing file and a key that no header can carry', async () => {
    const keys = new ApiKeys()
    const missing = await failureOf(keys.load({ apiKeysFile: join(folder, 'none') }))
    expect([missing.code, missing.message]).toEqual([
      'FILE_UNREADABLE',
      expect.stringContaining(join(folder, 'none')),
    ])
    expect((await failureOf(keys.load({ apiKey: 'a b' }))).code).toBe('API_KEYS_INVALID')
  })
})
