import { type Hash, createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open, readFile, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { basename, dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { EmbedError, toReason } from '../../errors.ts'
import { toWriteError } from './file-error.ts'
import { UnreachableError, openUrl } from './http.ts'
import type { OnPullProgress, PullProgress } from './progress.ts'

export interface DownloadOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** Lower-case hex. */
  readonly sha256?: string | undefined
  readonly sizeBytes?: number | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: OnPullProgress | undefined
  /** What progress events call the file. Default: the destination's base name. */
  readonly name?: string
  /** Until the connection stands, name look-up and TLS included. Default 3000. */
  readonly connectTimeoutMs?: number
  /** Longest silence of a connected server. Default 30000. */
  readonly stallTimeoutMs?: number
  /** Wait before the first retry, doubled at each. Default 500. */
  readonly retryDelayMs?: number
}

export interface DownloadedFile {
  readonly sizeBytes: number
  /** Lower-case hex, of what was written. */
  readonly sha256: string
}

const maxRetries = 3
// A server may ask for hours with Retry-After; a person at a terminal would rather be told.
const maxRetryAfterMs = 60_000
// A long transfer over a bad link may break often; what counts is that it moves on.
const progressThatForgivesBytes = 1 << 20
const progressIntervalMs = 50

/** Streams a URL to a file by way of `<destination>.part`; an interrupted transfer is taken up again with Range and
 * If-Range (the ETag lies in `<destination>.part.etag`), also by a later call. The destination appears only when whole.
 * @throws {EmbedError} DOWNLOAD_FAILED (with `status` when a server answered; the part file stays for a resume),
 *   CHECKSUM_MISMATCH (the file is removed), NO_SPACE, FILE_UNWRITABLE, REQUEST_CANCELLED (the part file stays) */
export async function downloadFile(
  url: string,
  destination: string,
  options: DownloadOptions = {},
): Promise<DownloadedFile> {
  const transfer: Transfer = {
    url,
    part: `${destination}.part`,
    options,
    hash: createHash('sha256'),
    bytes: 0,
    etag: undefined,
  }
  try {
    await mkdir(dirname(destination), { recursive: true })
    await loadPart(transfer)
  } catch (error) {
    throw toWriteError(error, transfer.part)
  }
  await transferWithRetries(transfer)
  report(transfer, 'verify', transfer.bytes)
  const file = { sizeBytes: transfer.bytes, sha256: transfer.hash.digest('hex') }
  await verify(transfer, file)
  try {
    await rename(transfer.part, destination)
  } catch (error) {
    throw toWriteError(error, destination)
  }
  await rm(toEtagPath(transfer), { force: true })
  return file
}

/** The status that a server answered with, if that is why downloadFile failed. */
export function httpStatusOf(error: unknown): number | undefined {
  const details: unknown = error instanceof EmbedError ? error.details : undefined
  if (typeof details !== 'object' || details === null || !('status' in details)) return undefined
  return typeof details.status === 'number' ? details.status : undefined
}

interface Transfer {
  readonly url: string
  readonly part: string
  readonly options: DownloadOptions
  /** Over the first `bytes` bytes of the part file. */
  hash: Hash
  bytes: number
  /** What the part file was given with; without one it cannot be resumed. */
  etag: string | undefined
}

/** Failures that the same request may not meet again. */
class HttpStatusError extends Error {
  override readonly name = 'HttpStatusError'
  readonly status: number
  readonly retryAfterMs: number | undefined
  constructor(status: number, retryAfterMs: number | undefined) {
    super(`HTTP ${status}`)
    this.status = status
    this.retryAfterMs = retryAfterMs
  }
}

async function loadPart(transfer: Transfer): Promise<void> {
  const size = await stat(transfer.part).then(
    (found) => found.size,
    () => 0,
  )
  const etag = await readFile(toEtagPath(transfer), 'utf8').catch(() => undefined)
  if (size === 0 || etag === undefined) return
  transfer.etag = etag
  for await (const chunk of createReadStream(transfer.part) as AsyncIterable<Buffer>) {
    transfer.hash.update(chunk)
    transfer.bytes += chunk.length
  }
}

async function transferWithRetries(transfer: Transfer): Promise<void> {
  const { signal, sizeBytes, retryDelayMs = 500 } = transfer.options
  let farthestBytes = transfer.bytes
  let retries = 0
  let everConnected = false
  // Stopped between the last byte and the rename: nothing is left to fetch.
  if (transfer.bytes > 0 && transfer.bytes === sizeBytes) return
  for (;;) {
    try {
      await transferOnce(transfer)
      return
    } catch (error) {
      if (signal?.aborted === true) throw new EmbedError('REQUEST_CANCELLED', {}, { cause: signal.reason })
      if (error instanceof EmbedError) throw error
      if (transfer.bytes >= farthestBytes + progressThatForgivesBytes) {
        farthestBytes = transfer.bytes
        retries = 0
      }
      const isFirstContact = error instanceof UnreachableError && !everConnected
      everConnected ||= !(error instanceof UnreachableError)
      if (isFirstContact || retries === maxRetries || !isTransient(error))
        throw toFailure(transfer, error, retries)
      const backOffMs = retryDelayMs * 2 ** retries
      retries++
      await sleepUnlessAborted(
        error instanceof HttpStatusError ? (error.retryAfterMs ?? backOffMs) : backOffMs,
        signal,
      )
    }
  }
}

function isTransient(error: unknown): boolean {
  if (!(error instanceof HttpStatusError)) return true
  if ((error.retryAfterMs ?? 0) > maxRetryAfterMs) return false
  return error.status >= 500 || [408, 416, 429].includes(error.status)
}

function toFailure(transfer: Transfer, error: unknown, retries: number): EmbedError {
  const status = error instanceof HttpStatusError ? { status: error.status } : {}
  const wait =
    error instanceof HttpStatusError && error.retryAfterMs !== undefined
      ? `, asks to come back in ${Math.ceil(error.retryAfterMs / 1000)} s`
      : ''
  const attempts = retries === 0 ? '' : ` (${retries + 1} attempts)`
  const kept =
    transfer.bytes === 0 || transfer.etag === undefined
      ? ''
      : `; ${transfer.bytes} bytes are kept, the next try resumes there`
  const reason = `${toReason(error)}${wait}${attempts}${kept}`
  return new EmbedError(
    'DOWNLOAD_FAILED',
    { url: toPublicUrl(transfer.url), reason, ...status },
    { cause: error },
  )
}

async function sleepUnlessAborted(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(delayMs, undefined, signal === undefined ? {} : { signal })
  } catch (error) {
    throw new EmbedError('REQUEST_CANCELLED', {}, { cause: error })
  }
}

async function transferOnce(transfer: Transfer): Promise<void> {
  const { options } = transfer
  const stallTimeoutMs = options.stallTimeoutMs ?? 30_000
  report(transfer, 'connect', transfer.bytes, options.sizeBytes)
  const { etag } = transfer
  if (etag === undefined) restart(transfer)
  const resume: Record<string, string> =
    etag === undefined || transfer.bytes === 0 ? {} : { range: `bytes=${transfer.bytes}-`, 'if-range': etag }
  const response = await openUrl(transfer.url, {
    headers: { ...options.headers, ...resume },
    connectTimeoutMs: options.connectTimeoutMs ?? 3000,
    answerTimeoutMs: stallTimeoutMs,
    signal: options.signal,
  })
  try {
    await checkStatus(transfer, response)
    await writeBody(transfer, response, stallTimeoutMs)
  } finally {
    response.destroy()
  }
}

/** Leaves `transfer.bytes` at where the body of the response starts. */
async function checkStatus(transfer: Transfer, response: IncomingMessage): Promise<void> {
  const status = response.statusCode ?? 0
  if (status === 200) {
    restart(transfer)
    return
  }
  const startsHere = response.headers['content-range']?.startsWith(`bytes ${transfer.bytes}-`) === true
  if (status === 206 && transfer.bytes > 0 && startsHere) return
  if (status === 206 || status === 416) {
    // The part file and the server disagree: without its ETag the next attempt starts anew.
    transfer.etag = undefined
    throw new HttpStatusError(416, undefined)
  }
  throw new HttpStatusError(status, toRetryAfterMs(response.headers['retry-after']))
}

async function writeBody(
  transfer: Transfer,
  response: IncomingMessage,
  stallTimeoutMs: number,
): Promise<void> {
  const { sizeBytes } = transfer.options
  const lengthHeader = response.headers['content-length']
  const totalBytes = lengthHeader === undefined ? sizeBytes : transfer.bytes + Number(lengthHeader)
  if (sizeBytes !== undefined && totalBytes !== sizeBytes) throw toSizeError(transfer, totalBytes ?? 0)
  await using handle = await openPart(transfer, response.headers.etag, totalBytes)
  const stall = setTimeout(() => {
    response.destroy(new Error(`no bytes for ${stallTimeoutMs} ms`))
  }, stallTimeoutMs)
  let reportedMs = Number.NEGATIVE_INFINITY
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      stall.refresh()
      await writeChunk(transfer, handle, chunk, totalBytes)
      if (performance.now() - reportedMs < progressIntervalMs) continue
      reportedMs = performance.now()
      report(transfer, 'download', transfer.bytes, totalBytes)
    }
  } finally {
    clearTimeout(stall)
  }
  if (totalBytes !== undefined && transfer.bytes < totalBytes)
    throw new Error(`the connection closed after ${transfer.bytes} of ${totalBytes} bytes`)
  report(transfer, 'download', transfer.bytes, totalBytes)
  await handle.sync().catch((error: unknown) => {
    throw toWriteError(error, transfer.part, totalBytes)
  })
}

async function openPart(
  transfer: Transfer,
  etag: string | undefined,
  totalBytes?: number,
): Promise<FileHandle> {
  try {
    const neededBytes = (totalBytes ?? 0) - transfer.bytes
    const disk = await statfs(dirname(transfer.part))
    // Some network file systems report no blocks at all.
    if (disk.blocks > 0 && disk.bavail * disk.bsize < neededBytes)
      throw new EmbedError('NO_SPACE', { path: transfer.part, neededBytes })
    if (transfer.bytes === 0) {
      await rm(toEtagPath(transfer), { force: true })
      // If-Range takes strong validators only (RFC 9110 §13.1.5).
      transfer.etag = etag?.startsWith('"') === true ? etag : undefined
      if (transfer.etag !== undefined) await writeFile(toEtagPath(transfer), transfer.etag)
    }
    return await open(transfer.part, transfer.bytes === 0 ? 'w' : 'r+')
  } catch (error) {
    throw toWriteError(error, transfer.part, totalBytes)
  }
}

async function writeChunk(
  transfer: Transfer,
  handle: FileHandle,
  chunk: Buffer,
  totalBytes?: number,
): Promise<void> {
  try {
    let written = 0
    while (written < chunk.length) {
      const { bytesWritten } = await handle.write(
        chunk,
        written,
        chunk.length - written,
        transfer.bytes + written,
      )
      written += bytesWritten
    }
  } catch (error) {
    throw toWriteError(error, transfer.part, totalBytes)
  }
  transfer.hash.update(chunk)
  transfer.bytes += chunk.length
}

async function verify(transfer: Transfer, file: DownloadedFile): Promise<void> {
  const { sha256, sizeBytes } = transfer.options
  const isRightSize = sizeBytes === undefined || sizeBytes === file.sizeBytes
  if (isRightSize && (sha256 === undefined || sha256 === file.sha256)) return
  await rm(transfer.part, { force: true })
  await rm(toEtagPath(transfer), { force: true })
  if (sha256 === undefined) throw toSizeError(transfer, file.sizeBytes)
  throw new EmbedError('CHECKSUM_MISMATCH', {
    file: transfer.options.name ?? toPublicUrl(transfer.url),
    expected: sha256,
    actual: file.sha256,
  })
}

function toSizeError(transfer: Transfer, sizeBytes: number): EmbedError {
  const reason = `the server gives ${sizeBytes} bytes, expected were ${transfer.options.sizeBytes}`
  return new EmbedError('DOWNLOAD_FAILED', { url: toPublicUrl(transfer.url), reason })
}

function restart(transfer: Transfer): void {
  transfer.hash = createHash('sha256')
  transfer.bytes = 0
}

function toEtagPath(transfer: Transfer): string {
  return `${transfer.part}.etag`
}

/** @param header seconds, or an HTTP date */
function toRetryAfterMs(header: string | undefined): number | undefined {
  if (header === undefined) return undefined
  const delayMs = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isNaN(delayMs) ? undefined : Math.max(0, delayMs)
}

/** Without a password that a mirror's address may carry. */
function toPublicUrl(url: string): string {
  const parsed = new URL(url)
  parsed.username = ''
  parsed.password = ''
  return parsed.href
}

function report(
  transfer: Transfer,
  phase: PullProgress['phase'],
  receivedBytes: number,
  totalBytes?: number,
): void {
  const { name, onProgress } = transfer.options
  const file = name ?? basename(transfer.part, '.part')
  onProgress?.(
    totalBytes === undefined ? { file, receivedBytes, phase } : { file, receivedBytes, totalBytes, phase },
  )
}
