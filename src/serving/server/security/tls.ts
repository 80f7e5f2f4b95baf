/** The certificate and the key of an HTTPS server. */
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import type { Config } from '../../../config/schema.ts'
import { EmbedError, toReason } from '../../../errors.ts'

export type TlsConfig = Pick<Config, 'tlsCert' | 'tlsKey'>

export interface TlsFiles {
  readonly cert: Buffer
  readonly key: Buffer
}

/** @returns undefined where the configuration names neither file
 * @throws {EmbedError} CONFIG_INVALID (one of the two), FILE_UNREADABLE, TLS_INVALID */
export async function loadTls({ tlsCert, tlsKey }: TlsConfig): Promise<TlsFiles | undefined> {
  if (tlsCert === undefined && tlsKey === undefined) return undefined
  if (tlsCert === undefined || tlsKey === undefined) {
    const [given, missing] = tlsCert === undefined ? ['tlsKey', 'tlsCert'] : ['tlsCert', 'tlsKey']
    throw new EmbedError('CONFIG_INVALID', {
      reason: `${given} is given without ${missing}; give both or none`,
    })
  }
  const files = { cert: await read(tlsCert), key: await read(tlsKey) }
  try {
    createSecureContext(files)
  } catch (cause) {
    throw new EmbedError('TLS_INVALID', { cert: tlsCert, key: tlsKey, reason: toReason(cause) }, { cause })
  }
  return files
}

async function read(path: string): Promise<Buffer> {
  return readFile(path).catch((cause: unknown) => {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(cause) }, { cause })
  })
}
