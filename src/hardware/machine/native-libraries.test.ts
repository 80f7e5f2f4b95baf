import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { canCompile, compileNative } from '../../../test/fakes/native-library.ts'
import { findNativeLibraries } from './native-libraries.ts'

let root: string
const at = (...parts: string[]) => join(root, ...parts)
const search = (...folders: string[]) => ({
  systemFolders: folders.map((folder) => at(folder)),
  isJetson: false,
})
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'native-libraries-'))
})
afterAll(() => rmSync(root, { recursive: true }))

describe.skipIf(!canCompile)('the libraries of the native engine', () => {
  beforeAll(() => {
    for (const folder of ['driver', 'toolkit', 'newer', 'nvrtc']) mkdirSync(at(folder))
    copyFileSync(compileNative('cuda'), at('driver/libcuda.so.580.65.06'))
    for (const file of ['toolkit/libnvrtc.so.13', 'toolkit/libcublasLt.so.13']) writeFileSync(at(file), '')
    for (const file of ['newer/libnvrtc.so.14', 'newer/libcublasLt.so.14']) writeFileSync(at(file), '')
    writeFileSync(at('nvrtc/libnvrtc.so.13'), '')
  })

  it('are the newest that the driver runs', async () => {
    expect(await findNativeLibraries(search('driver', 'newer', 'toolkit'))).toEqual({
      cuda: at('driver/libcuda.so.580.65.06'),
      nvrtc: at('toolkit/libnvrtc.so.13'),
      cublaslt: at('toolkit/libcublasLt.so.13'),
    })
  })

  it.each([
    ['no driver', ['toolkit'], /^libcuda was not found[^]*install NVIDIA's driver/],
    ['no compiler', ['driver', 'newer'], /^libnvrtc was not found[^]*nvidia-cuda-nvrtc/],
    ['no cuBLASLt', ['driver', 'nvrtc'], /^libcublasLt was not found[^]*cublas/],
  ])('%s: the folders and the package are named', async (_, folders, message) => {
    const error = await failureOf(findNativeLibraries(search(...folders)))
    expect([error.code, error.message]).toEqual(['LIBRARY_NOT_FOUND', expect.stringMatching(message)])
  })
})
