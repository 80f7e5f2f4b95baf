import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { type FakePip, createFakePip, deliver } from '../../../test/fakes/fake-pip.ts'
import { createZip } from '../../../test/fakes/zip.ts'
import {
  type OpenvinoRuntimePin,
  installRuntime,
  openvinoRuntimeFolder,
  openvinoVersion,
  pullOpenvinoRuntime,
} from './openvino-runtime.ts'

let root = ''
let folder = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'runtime-'))
  folder = join(root, 'runtimes', 'x')
})
afterEach(() => rm(root, { recursive: true, force: true }))

const content = {
  'openvino/libs/liba.so.1': 'a',
  'openvino/libs/libb.so': 'b',
  'openvino/libs/libunused.so': 'c',
  'openvino/other/liba.so.1': 'not this one',
  'openvino/__init__.py': '',
}

async function createPin(libraries: string[]): Promise<{ pin: OpenvinoRuntimePin; pip: FakePip }> {
  const wheel = createZip(content)
  await writeFile(join(root, 'source.bin'), wheel)
  const pip = await createFakePip(root, deliver(join(root, 'source.bin')))
  const sha256 = createHash('sha256').update(wheel).digest('hex')
  const pin = {
    wheel: { name: 'openvino', version: '1.0', sha256, sizeBytes: wheel.length },
    minGlibcVersion: '2.28',
    libraries,
  }
  return { pin, pip }
}

test('keeps the named libraries side by side, once', async () => {
  const { pin, pip } = await createPin(['liba.so.1', 'libb.so'])
  const options = { pipCommands: [pip.command] }
  await Promise.all([installRuntime(pin, folder, options), installRuntime(pin, folder, options)])
  expect((await readdir(folder)).sort()).toEqual(['.complete', 'liba.so.1', 'libb.so'])
  expect(await readFile(join(folder, 'liba.so.1'), 'utf8')).toBe('a')
  await installRuntime(pin, folder, { ...options, offline: true })
  expect(await pip.calls()).toHaveLength(1)
  expect(await readdir(join(root, 'runtimes'))).toEqual(['x'])
})

test('a wheel that lacks a library is refused', async () => {
  const { pin, pip } = await createPin(['liba.so.1', 'libz.so'])
  const error = await failureOf(installRuntime(pin, folder, { pipCommands: [pip.command] }))
  expect(error.message).toContain('holds no libz.so')
  expect(existsSync(join(folder, '.complete'))).toBe(false)
})

test('offline without a cache is OFFLINE', async () => {
  const host = { platform: 'linux', arch: 'x64', glibcVersion: '2.36' } as const
  const error = await failureOf(pullOpenvinoRuntime({ cacheDir: root, offline: true, host }))
  expect(error.code).toBe('OFFLINE')
  expect(error.message).toContain(openvinoVersion)
})

test.each([
  ['darwin', 'arm64', undefined, 'for Linux, this is darwin'],
  ['win32', 'x64', undefined, 'for Linux, this is win32'],
  ['linux', 'x64', undefined, 'another C library (musl)'],
  ['linux', 'x64', '2.17', 'need glibc 2.28, this system has 2.17'],
  ['linux', 'arm64', '2.31', 'need glibc 2.35, this system has 2.31'],
  ['linux', 'ppc64', '2.36', 'no build for linux on ppc64'],
] as const)('%s on %s with glibc %s cannot have it', async (platform, arch, glibcVersion, reason) => {
  const host = { platform, arch, glibcVersion }
  const error = await failureOf(pullOpenvinoRuntime({ cacheDir: root, offline: true, host }))
  expect(error.code).toBe('ENGINE_UNAVAILABLE')
  expect(error.message).toContain(reason)
})

test.each([
  ['x64', '2.28'],
  ['x64', '3.0'],
  ['arm64', '2.35'],
] as const)('%s with glibc %s may have it', async (arch, glibcVersion) => {
  const host = { platform: 'linux', arch, glibcVersion } as const
  expect((await failureOf(pullOpenvinoRuntime({ cacheDir: root, offline: true, host }))).code).toBe('OFFLINE')
})

test.runIf(process.platform === 'linux')('reads the C library of this machine', async () => {
  const error = await failureOf(pullOpenvinoRuntime({ cacheDir: root, offline: true, arch: 'x64' }))
  const isGlibc = existsSync('/lib64/ld-linux-x86-64.so.2') || existsSync('/lib/ld-linux-aarch64.so.1')
  expect(error.code).toBe(isGlibc ? 'OFFLINE' : 'ENGINE_UNAVAILABLE')
})

test('the folder names version and architecture', () => {
  expect(openvinoRuntimeFolder('/cache', 'arm64')).toBe(
    join('/cache', 'runtimes', `openvino-${openvinoVersion}-linux-arm64`),
  )
})
