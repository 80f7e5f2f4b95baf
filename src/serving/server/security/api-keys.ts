/** The keys that requests may bring: from the configuration, and from a file that may change while the server runs. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Config } from '../../../config/schema.ts'
import { EmbedError, toReason } from '../../../errors.ts'

export type KeyConfig = Pick<Config, 'apiKey' | 'apiKeysFile'>

export class ApiKeys {
  #digests: readonly Buffer[] = []

  /** With none every request may pass. */
  get count(): number {
    return this.#digests.length
  }

  /** Compares with every key, in the same time for any answer. */
  includes(candidate: string): boolean {
    const digest = sha256(candidate)
    let isKnown = false
    for (const known of this.#digests) isKnown = timingSafeEqual(known, digest) || isKnown
    return isKnown
  }

  /** Takes the keys that the configuration names now; on an error those of before stay.
   * @throws {EmbedError} API_KEYS_INVALID, FILE_UNREADABLE */
  async load({ apiKey, apiKeysFile }: KeyConfig): Promise<void> {
    const keys = apiKey === undefined ? [] : [apiKey]
    if (apiKey !== undefined) checkKey(apiKey, 'apiKey')
    if (apiKeysFile !== undefined) keys.push(...(await readKeys(apiKeysFile)))
    this.#digests = keys.map(sha256)
  }
}

async function readKeys(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(cause) }, { cause })
  })
  const keys: string[] = []
  for (const [i, line] of text.split('\n').entries()) {
    const key = line.trim()
    if (key === '' || key.startsWith('#')) continue
    checkKey(key, `${path} line ${i + 1}`)
    keys.push(key)
  }
  if (keys.length === 0) throw new EmbedError('API_KEYS_INVALID', { source: path, reason: 'it holds no key' })
  return keys
}

/** The message never shows the key. */
function checkKey(key: string, source: string): void {
  if (/^[\x21-\x7e]+$/.test(key)) return
  const reason = 'the key holds a character that no header can carry'
  throw new EmbedError('API_KEYS_INVALID', { source, reason })
}

/** Digests have one length, so that timingSafeEqual takes them and the length of a key shows nowhere. */
function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
