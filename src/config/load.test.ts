import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { EmbedError } from '../errors.ts'
import { loadConfig, readConfigFile, toPrintableConfig } from './load.ts'
import { knobs } from './schema.ts'

describe('loadConfig', () => {
  it('gives every default, frozen', () => {
    const config = loadConfig()
    expect(config).toMatchObject({
      port: 8080,
      host: '127.0.0.1',
      engine: 'auto',
      maxBatchSize: 32,
      batchTimeoutMs: 5,
    })
    expect(Object.isFrozen(config)).toBe(true)
    expect(config.threads).toBeUndefined()
  })

  it('lets flags win over the environment and the environment over the file', () => {
    const file = { path: 'a.json', values: { port: 1, host: 'f', maxBatchSize: 3 } }
    const environment = { AKIDB_PORT: '2', AKIDB_HOST: 'e' }
    expect(loadConfig({ file, environment, flags: { port: '4' } })).toMatchObject({
      port: 4,
      host: 'e',
      maxBatchSize: 3,
    })
  })

  it('refuses an unknown key with the nearest name', () => {
    expect(() => loadConfig({ file: { path: 'a.json', values: { maxBatchsize: 3 } } })).toThrow(
      "a.json has the unknown key 'maxBatchsize'; did you mean 'maxBatchSize'?",
    )
  })

  it.each([
    [{ port: 'http' }, '--port is "http"; it takes a whole number from 0 to 65535'],
    [{ port: '70000' }, '--port is 70000; it takes a whole number from 0 to 65535'],
    [{ port: '1.5' }, '--port is 1.5; it takes a whole number'],
    [
      { engine: 'opnvino' },
      `--engine is "opnvino"; it takes auto, onnx, openvino, tensorrt, cuda; did you mean 'openvino'?`,
    ],
    [{ offline: 'maybe' }, '--offline is "maybe"; it takes true or false'],
    [{ model: '' }, '--model is ""; it takes a text of at least one character'],
    [{ maxQueuedRequests: 0 }, '--max-queued-requests is 0; it takes a whole number of at least 1'],
  ])('refuses %j with the value and the way out', (flags, message) => {
    expect(() => loadConfig({ flags })).toThrow(message)
    expect(() => loadConfig({ flags })).toThrow(EmbedError)
  })

  it('hides secrets when printed and in messages', () => {
    const config = loadConfig({ environment: { HF_TOKEN: 'hf_secret' } })
    expect(config.hfToken).toBe('hf_secret')
    expect(JSON.stringify(toPrintableConfig(config))).not.toContain('hf_secret')
  })

  it('gives each knob a flag and a variable of its own and a description', () => {
    expect(new Set(knobs.map((knob) => knob.flag)).size).toBe(knobs.length)
    expect(new Set(knobs.map((knob) => knob.variable)).size).toBe(knobs.length)
    for (const knob of knobs) expect(knob.description.length, knob.key).toBeGreaterThan(10)
  })
})

describe('readConfigFile', () => {
  const folder = mkdtempSync(join(tmpdir(), 'akidb-config-'))
  afterAll(() => rmSync(folder, { recursive: true }))
  it('names the file and what is wrong with it', () => {
    const path = join(folder, 'broken.json')
    writeFileSync(path, '{"port": ')
    expect(() => readConfigFile(path)).toThrow(`${path} is not valid JSON`)
    writeFileSync(path, '[1]')
    expect(() => readConfigFile(path)).toThrow(`${path} must hold one JSON object`)
    expect(() => readConfigFile(join(folder, 'none.json'))).toThrow('cannot read')
  })
})
