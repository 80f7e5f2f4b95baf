import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { sendFile } from '../../../test/fakes/http-server.ts'
import { createFakeHub, fakeCommit } from '../../../test/fakes/hub-server.ts'
import type { PullProgress } from './progress.ts'
import { pullFromHub, selectModelFiles } from './hub.ts'

const weights = randomBytes(200_000)
const files = {
  'config.json': '{"model_type":"bert"}',
  'tokenizer.json': '{}',
  '1_Pooling/config.json': '{"pooling_mode_mean_tokens":true}',
  'model.safetensors': weights,
  'pytorch_model.bin': 'never',
  'README.md': 'never',
}
const wanted = ['1_Pooling/config.json', 'config.json', 'model.safetensors', 'tokenizer.json']

let root = ''
let folder = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'hub-'))
  folder = join(root, 'model')
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function list(): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort()
}

test('downloads what is needed at the commit that the revision stands for', async () => {
  await using hub = await createFakeHub(files, { revisions: ['main', 'refs/pr/1'] })
  const events: PullProgress[] = []
  const onProgress = (event: PullProgress): void => void events.push(event)
  const result = await pullFromHub('org/name', folder, {
    endpoint: `${hub.url}/`,
    revision: 'refs/pr/1',
    onProgress,
  })
  expect(result).toMatchObject({ source: 'hub', revision: fakeCommit })
  expect([...result.files].sort()).toEqual(wanted)
  expect(await list()).toEqual(wanted)
  expect(weights.equals(await readFile(join(folder, 'model.safetensors')))).toBe(true)
  expect(hub.requests[0]?.path).toBe('/api/models/org/name/revision/refs%2Fpr%2F1?blobs=true')
  expect(hub.requests[1]?.path).toBe(`/org/name/resolve/${fakeCommit}/config.json`)
  expect(hub.requests).toHaveLength(5)
  expect(events.find((event) => event.file === 'model.safetensors')?.phase).toBe('connect')
})

test('sends the token', async () => {
  await using hub = await createFakeHub(files, { token: 'hf_secret' })
  await pullFromHub('org/name', folder, { endpoint: hub.url, token: 'hf_secret' })
  expect(await list()).toEqual(wanted)
})

test('401 without and with a token name the flag and the variable, never the token', async () => {
  await using hub = await createFakeHub(files, { token: 'hf_secret' })
  const error = await failureOf(pullFromHub('org/name', folder, { endpoint: hub.url }))
  expect(error.code).toBe('MODEL_ACCESS_DENIED')
  expect(error.message).toMatch(/HTTP 401.*--hf-token or HF_TOKEN/)
  const other = await failureOf(pullFromHub('org/name', folder, { endpoint: hub.url, token: 'hf_wrong' }))
  expect(other.details).toMatchObject({ status: 401, hasToken: true })
  expect(other.message).not.toContain('hf_wrong')
})

test('403 at a file of a gated model is MODEL_ACCESS_DENIED too', async () => {
  await using hub = await createFakeHub(files, {
    onFile: (path, _request, response) =>
      path === 'model.safetensors' && response.writeHead(403).end().writableEnded,
  })
  const error = await failureOf(pullFromHub('org/name', folder, { endpoint: hub.url, token: 't' }))
  expect(error.details).toMatchObject({ status: 403, model: 'org/name' })
})

test('404 is DOWNLOAD_FAILED with the status', async () => {
  await using hub = await createFakeHub(files)
  const error = await failureOf(pullFromHub('org/other', folder, { endpoint: hub.url }))
  expect(error.code).toBe('DOWNLOAD_FAILED')
  expect(error.details).toMatchObject({ status: 404 })
})

test('survives dropped connections, 503 and a server without Range', async () => {
  await using hub = await createFakeHub(files, {
    onFile: (path, request, response, count) => {
      if (path === 'tokenizer.json' && count < 2) response.writeHead(503).end()
      else if (path === 'model.safetensors' && count === 0)
        sendFile(request, response, weights, { cutAfterBytes: 50_000 })
      else if (path === 'model.safetensors') {
        delete request.headers.range
        sendFile(request, response, weights)
      } else return false
      return true
    },
  })
  await pullFromHub('org/name', folder, { endpoint: hub.url, retryDelayMs: 5 })
  expect(await list()).toEqual(wanted)
  expect(weights.equals(await readFile(join(folder, 'model.safetensors')))).toBe(true)
})

test('wrong bytes under the right size are a CHECKSUM_MISMATCH', async () => {
  await using hub = await createFakeHub(files, {
    onFile: (path, request, response) => {
      if (path !== 'model.safetensors') return false
      sendFile(request, response, randomBytes(weights.length))
      return true
    },
  })
  const error = await failureOf(pullFromHub('org/name', folder, { endpoint: hub.url }))
  expect(error.code).toBe('CHECKSUM_MISMATCH')
  expect(error.details).toMatchObject({ file: 'model.safetensors' })
  expect(existsSync(join(folder, 'model.safetensors'))).toBe(false)
})

test('an interrupted pull is taken up again, file and byte', async () => {
  let isBroken = true
  const onFile: Parameters<typeof createFakeHub>[1] = {
    onFile: (path, request, response) => {
      if (!isBroken || path !== 'model.safetensors') return false
      sendFile(request, response, weights, { cutAfterBytes: 10_000 })
      return true
    },
  }
  await using hub = await createFakeHub(files, onFile)
  const options = { endpoint: hub.url, retryDelayMs: 1 }
  expect((await failureOf(pullFromHub('org/name', folder, options))).code).toBe('DOWNLOAD_FAILED')
  const before = hub.requests.length
  isBroken = false
  await pullFromHub('org/name', folder, options)
  const later = hub.requests.slice(before)
  expect(later.map((request) => request.path.split('/').at(-1))).toEqual([
    'main?blobs=true',
    'model.safetensors',
  ])
  expect(later[1]?.headers.range).toBe('bytes=40000-')
  expect(await list()).toEqual(wanted)
})

test('files of an interrupted pull are dropped when the branch has moved on', async () => {
  const cut = { 'model.safetensors': weights }
  {
    await using hub = await createFakeHub(files, {
      onFile: (path, _request, response) => path in cut && response.writeHead(404).end().writableEnded,
    })
    await failureOf(pullFromHub('org/name', folder, { endpoint: hub.url }))
    expect(await readFile(join(folder, 'config.json'), 'utf8')).toBe('{"model_type":"bert"}')
  }
  const changed = { ...files, 'config.json': '{"model_type":"BERT"}' }
  await using hub = await createFakeHub(changed, { commit: 'd'.repeat(40) })
  await pullFromHub('org/name', folder, { endpoint: hub.url })
  expect(await readFile(join(folder, 'config.json'), 'utf8')).toBe('{"model_type":"BERT"}')
})

test('a mirror that tells neither sizes nor checksums will do', async () => {
  await using hub = await createFakeHub(files, { isBare: true })
  await pullFromHub('org/name', folder, { endpoint: hub.url })
  expect(await list()).toEqual(wanted)
})

test('a model without usable weights or without config.json says so', async () => {
  await using hub = await createFakeHub({ 'config.json': '{}', 'pytorch_model.bin': 'x' })
  const error = await failureOf(pullFromHub('org/name', folder, { endpoint: hub.url }))
  expect(error.code).toBe('MODEL_FILE_MISSING')
  expect(error.message).toContain('no model.safetensors and no onnx/model.onnx')
  await using other = await createFakeHub({ 'model.safetensors': 'x' })
  const second = await failureOf(pullFromHub('org/name', folder, { endpoint: other.url }))
  expect(second.message).toContain('has no config.json')
})

test('an answer that is no listing is DOWNLOAD_FAILED', async () => {
  await using hub = await createFakeHub(files, { commit: 'not a commit' })
  const error = await failureOf(pullFromHub('org/name', folder, { endpoint: hub.url }))
  expect(error.message).toContain('not a list of model files')
})

function select(...paths: string[]): string[] {
  return selectModelFiles(paths.map((path) => ({ path, sizeBytes: 1, sha256: undefined }))).map(
    (file) => file.path,
  )
}

test('selects settings of the model and its modules', () => {
  const settings = [
    'config.json',
    'modules.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'special_tokens_map.json',
    'sentence_bert_config.json',
    'sentence_xlnet_config.json',
    'config_sentence_transformers.json',
    '2_Dense/config.json',
    '2_Dense/model.safetensors',
    'golden.json',
  ]
  expect(select(...settings)).toEqual(settings)
  expect(
    select(
      'onnx/config.json',
      'openvino/config.json',
      'a/b/config.json',
      'vocab.txt',
      'tf_model.h5',
      '.gitattributes',
    ),
  ).toEqual([])
})

test('selects one set of weights', () => {
  const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
  const index = 'model.safetensors.index.json'
  expect(select('model.safetensors', 'other.safetensors', ...shards, index, 'onnx/model.onnx')).toEqual([
    'model.safetensors',
  ])
  expect(select(...shards, index, 'consolidated.safetensors')).toEqual([...shards, index])
  expect(select('weights.safetensors', 'onnx/model.onnx')).toEqual(['weights.safetensors'])
  expect(
    select('onnx/model.onnx', 'onnx/model.onnx_data', 'onnx/model_int8.onnx', 'pytorch_model.bin'),
  ).toEqual(['onnx/model.onnx', 'onnx/model.onnx_data'])
})

test('a listing cannot make files outside the folder', () => {
  expect(select('../config.json', '..\\x/config.json', '/config.json', 'a/../config.json')).toEqual([])
})
