import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Credentials } from './credentials.ts'
import type { TlsFiles } from './tls.ts'

const tlsFixture = (name: string): string =>
  fileURLToPath(new URL(`../../../../test/fixtures/tls/${name}`, import.meta.url))

let folder: string
let errors: string[]
const log = {
  info: () => undefined,
  error: (_values: object, message: string) => void errors.push(message),
}
const watching = { intervalMs: 20, onTls: () => undefined, log }
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'akidb-credentials-'))
  errors = []
})
afterEach(() => rm(folder, { recursive: true }))

describe('the file of keys', () => {
  it('is read again when it is written, replaced, removed and put back', async () => {
    const path = join(folder, 'keys')
    await writeFile(path, 'one')
    using credentials = await Credentials.load({ apiKeysFile: path })
    credentials.watch(watching)
    const { keys } = credentials
    const known = () => ['one', 'two', 'three', 'four'].filter((key) => keys.includes(key))
    expect(known()).toEqual(['one'])

    await writeFile(path, 'two\n')
    await expect.poll(known).toEqual(['two'])

    await writeFile(`${path}.new`, 'two\nthree\n')
    await rename(`${path}.new`, path)
    await expect.poll(known).toEqual(['two', 'three'])

    await rm(path)
    await expect.poll(() => errors).toContainEqual(expect.stringMatching(/keys.*ENOENT.*stays in use/))
    expect(known()).toEqual(['two', 'three'])

    await writeFile(path, 'four')
    await expect.poll(known).toEqual(['four'])

    await writeFile(path, '# all gone\n')
    await expect.poll(() => errors.at(-1)).toMatch(/it holds no key.*stays in use/)
    expect(known()).toEqual(['four'])
  })

  it('is read again when it was written between its reading and the watch', async () => {
    const path = join(folder, 'keys')
    await writeFile(path, 'one')
    using credentials = await Credentials.load({ apiKeysFile: path })
    await writeFile(path, 'two')
    credentials.watch(watching)
    await expect.poll(() => credentials.keys.includes('two')).toBe(true)
  })

  it('is followed through the links that Kubernetes swaps', async () => {
    // keys -> ..data/keys, ..data -> ..1; an update makes ..2 and renames a new ..data over the old one.
    for (const [version, key] of [
      ['..1', 'one'],
      ['..2', 'two'],
    ] as const) {
      await mkdir(join(folder, version))
      await writeFile(join(folder, version, 'keys'), key)
    }
    await symlink('..1', join(folder, '..data'))
    await symlink('..data/keys', join(folder, 'keys'))
    using credentials = await Credentials.load({ apiKeysFile: join(folder, 'keys') })
    credentials.watch(watching)
    await symlink('..2', join(folder, '..data_tmp'))
    await rename(join(folder, '..data_tmp'), join(folder, '..data'))
    await expect.poll(() => credentials.keys.includes('two')).toBe(true)
    expect(credentials.keys.includes('one')).toBe(false)
  })

  it('may be another one after a reload, and the old one is watched no longer', async () => {
    const [old, next] = [join(folder, 'old'), join(folder, 'next')]
    await writeFile(old, 'old-key')
    await writeFile(next, 'next-key')
    using credentials = await Credentials.load({ apiKeysFile: old })
    credentials.watch(watching)
    await credentials.reload({ apiKeysFile: next })
    expect([credentials.keys.includes('old-key'), credentials.keys.includes('next-key')]).toEqual([
      false,
      true,
    ])
    await rm(old)
    await writeFile(next, 'newest-key')
    await expect.poll(() => credentials.keys.includes('newest-key')).toBe(true)
    expect(errors.filter((message) => message.includes(old))).toEqual([])
  })
})

describe('the certificate', () => {
  it('is handed out when its files have changed and belong together', async () => {
    const [tlsCert, tlsKey] = [join(folder, 'cert'), join(folder, 'key')]
    const put = async (path: string, fixture: string): Promise<void> => {
      await rm(path, { force: true })
      await symlink(tlsFixture(fixture), path)
    }
    await put(tlsCert, 'first.crt')
    await put(tlsKey, 'first.key')
    const handed: TlsFiles[] = []
    using credentials = await Credentials.load({ tlsCert, tlsKey })
    credentials.watch({ ...watching, onTls: (files) => handed.push(files) })

    await put(tlsCert, 'second.crt')
    await expect.poll(() => errors).toContainEqual(expect.stringMatching(/cannot be used.*stays in use/))
    expect(handed).toEqual([])
    await put(tlsKey, 'second.key')
    await expect.poll(() => handed.length).toBeGreaterThan(0)
    expect(handed[0]!.cert).not.toEqual(credentials.tls!.cert)
  })

  it.each([
    [{ tlsCert: 'first.crt' }, 'CONFIG_INVALID', 'tlsCert is given without tlsKey'],
    [{ tlsKey: 'first.key' }, 'CONFIG_INVALID', 'tlsKey is given without tlsCert'],
    [{ tlsCert: 'first.crt', tlsKey: 'second.key' }, 'TLS_INVALID', 'belong together'],
    [{ tlsCert: 'make-tls.sh', tlsKey: 'first.key' }, 'TLS_INVALID', 'make-tls.sh'],
    [{ tlsCert: 'first.crt', tlsKey: 'none.key' }, 'FILE_UNREADABLE', 'none.key'],
  ])('of %j is refused', async (names, code, message) => {
    const config = Object.fromEntries(Object.entries(names).map(([key, name]) => [key, tlsFixture(name)]))
    await expect(Credentials.load(config)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message) as string,
    })
  })
})
