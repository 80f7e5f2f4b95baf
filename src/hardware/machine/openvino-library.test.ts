import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { findOpenvinoLibrary, parseLibraryVersion } from './openvino-library.ts'

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'openvino-library-'))
  for (const [folder, file] of [
    ['a', 'libopenvino_c.so.2630'],
    ['b', 'libopenvino_c.so.2641'],
    ['empty', 'libopenvino.so.2641'],
  ] as const) {
    await mkdir(join(root, folder))
    await writeFile(join(root, folder, file), '')
  }
  await symlink('libopenvino_c.so.2641', join(root, 'b', 'libopenvino_c.so'))
})
afterAll(() => rm(root, { recursive: true }))

const at = (...parts: string[]) => join(root, ...parts)

it('takes the first folder that holds one, and tells where it looked', () => {
  const result = findOpenvinoLibrary({
    folders: [at('absent'), at('empty'), at('b'), at('a')],
    systemFolders: [],
  })
  expect(result).toEqual({
    found: { path: at('b', 'libopenvino_c.so.2641'), version: '2026.4.1' },
    searched: [at('absent'), at('empty'), at('b')],
  })
})

it('looks at the explicit path alone, a file or a folder', () => {
  const folders = [at('b')]
  expect(findOpenvinoLibrary({ explicitPath: at('a'), folders }).found?.path).toBe(
    at('a', 'libopenvino_c.so.2630'),
  )
  const file = at('a', 'libopenvino_c.so.2630')
  expect(findOpenvinoLibrary({ explicitPath: file, folders }).found).toEqual({
    path: file,
    version: '2026.3.0',
  })
  expect(findOpenvinoLibrary({ explicitPath: at('absent'), folders })).toEqual({
    found: undefined,
    searched: [at('absent')],
  })
})

it('ends at the system folders', () => {
  const result = findOpenvinoLibrary({ folders: [], systemFolders: [at('empty'), at('a')] })
  expect(result.found?.path).toBe(at('a', 'libopenvino_c.so.2630'))
  expect(result.searched.slice(-2)).toEqual([at('empty'), at('a')])
})

it.each([
  ['/x/libopenvino_c.so.2641', '2026.4.1'],
  ['/x/libopenvino_c.2510.dylib', '2025.1.0'],
  ['/x/libopenvino_c.so', undefined],
  ['C:\\x\\openvino_c.dll', undefined],
])('%s is version %s', (path, version) => {
  expect(parseLibraryVersion(path)).toBe(version)
})
