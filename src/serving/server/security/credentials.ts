/** Keys and certificate: loaded at the start, again at a reload and whenever their files change. */
import type { EmbedError } from '../../../errors.ts'
import { ApiKeys, type KeyConfig } from './api-keys.ts'
import { type TlsConfig, type TlsFiles, loadTls } from './tls.ts'
import { describeFiles, watchFiles } from './watch-files.ts'

export type CredentialsConfig = KeyConfig & TlsConfig

export interface CredentialsLog {
  info(values: object, message: string): void
  error(values: object, message: string): void
}

export class Credentials implements Disposable {
  readonly keys: ApiKeys
  readonly tls: TlsFiles | undefined
  #config: CredentialsConfig
  /** The files before they were read. */
  #described: string
  #log: CredentialsLog | undefined
  #onTls: (files: TlsFiles) => void = () => undefined
  #intervalMs = 0
  #unwatch: () => void = () => undefined
  #reading: Promise<void> = Promise.resolve()

  private constructor(
    config: CredentialsConfig,
    described: string,
    keys: ApiKeys,
    tls: TlsFiles | undefined,
  ) {
    this.#config = config
    this.#described = described
    this.keys = keys
    this.tls = tls
  }

  /** @throws {EmbedError} API_KEYS_INVALID, TLS_INVALID, FILE_UNREADABLE, CONFIG_INVALID */
  static async load(config: CredentialsConfig): Promise<Credentials> {
    const described = await describeFiles(pathsOf(config))
    const keys = new ApiKeys()
    await keys.load(config)
    return new Credentials(config, described, keys, await loadTls(config))
  }

  /** From now on changes of the files are taken over; what cannot be read is logged, and what was there stays. */
  watch(options: { intervalMs: number; onTls: (files: TlsFiles) => void; log: CredentialsLog }): void {
    this.#log = options.log
    this.#onTls = options.onTls
    this.#intervalMs = options.intervalMs
    this.#watchFiles()
  }

  /** Takes over what the configuration names now, as a change of the files would. */
  async reload(config: CredentialsConfig): Promise<void> {
    this.#config = config
    this.#described = await describeFiles(pathsOf(config))
    this.#watchFiles()
    await this.#read()
  }

  [Symbol.dispose](): void {
    this.#unwatch()
  }

  #watchFiles(): void {
    this.#unwatch()
    const options = { intervalMs: this.#intervalMs, described: this.#described }
    this.#unwatch = watchFiles(pathsOf(this.#config), options, () => void this.#read())
  }

  /** One after the other, so that the newest read wins. */
  #read(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#readNow())
    return this.#reading
  }

  async #readNow(): Promise<void> {
    const config = this.#config
    const outcomes = await Promise.allSettled([this.keys.load(config), this.#readTls(config)])
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') continue
      const { code, message } = outcome.reason as EmbedError
      this.#log?.error({ code }, `${message}; what was read before stays in use`)
    }
    this.#log?.info({ apiKeys: this.keys.count }, 'read the API keys and the certificate again')
  }

  async #readTls(config: TlsConfig): Promise<void> {
    const files = await loadTls(config)
    if (files !== undefined) this.#onTls(files)
  }
}

function pathsOf({ apiKeysFile, tlsCert, tlsKey }: CredentialsConfig): string[] {
  return [apiKeysFile, tlsCert, tlsKey].filter((path) => path !== undefined)
}
