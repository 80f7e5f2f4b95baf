import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Type } from 'typebox'
import { Check } from 'typebox/value'
import { EmbedError } from '../../errors.ts'
import type { FilledFolder } from './complete-marker.ts'
import { type DownloadOptions, downloadFile, httpStatusOf } from './download.ts'
import { toWriteError } from './file-error.ts'

export const defaultHubEndpoint = 'https://huggingface.co'

export interface HubOptions extends Pick<
  DownloadOptions,
  'signal' | 'onProgress' | 'connectTimeoutMs' | 'stallTimeoutMs' | 'retryDelayMs'
> {
  /** Base address, a mirror's for instance. Default: the public hub. */
  readonly endpoint?: string | undefined
  readonly token?: string | undefined
  /** Branch, tag or commit. Default 'main'. */
  readonly revision?: string | undefined
}

export interface HubFile {
  /** In the repository, with '/'. */
  readonly path: string
  readonly sizeBytes: number | undefined
  /** Known for large files (LFS), lower-case hex. */
  readonly sha256: string | undefined
}

const listingSchema = Type.Object({
  sha: Type.String({ pattern: '^[0-9a-f]{7,64}$' }),
  siblings: Type.Array(
    Type.Object({
      rfilename: Type.String(),
      size: Type.Optional(Type.Integer()),
      lfs: Type.Optional(Type.Object({ sha256: Type.String(), size: Type.Integer() })),
    }),
  ),
})

/** Downloads what is needed of a Hugging Face hub model into a folder; files of an earlier, interrupted pull of the same
 * commit are kept.
 * @returns the commit that the revision stood for, and the files
 * @throws {EmbedError} MODEL_ACCESS_DENIED (401, 403), MODEL_FILE_MISSING, DOWNLOAD_FAILED (`status` 404: no such model
 *   or revision), and what downloadFile throws
 * @see https://huggingface.co/docs/hub/api */
export async function pullFromHub(
  id: string,
  folder: string,
  options: HubOptions = {},
): Promise<FilledFolder> {
  const request: HubRequest = {
    id,
    endpoint: (options.endpoint ?? defaultHubEndpoint).replace(/\/+$/, ''),
    options,
    headers: options.token === undefined ? {} : { authorization: `Bearer ${options.token}` },
  }
  const { commit, files } = await listFiles(request, folder)
  const selected = selectModelFiles(files)
  assertUsable(request, selected)
  await keepOnlyCommit(folder, commit)
  for (const file of selected) {
    const destination = join(folder, file.path)
    // Only verified files get their name, so one that is there is good.
    if (file.sizeBytes !== undefined && (await sizeOf(destination)) === file.sizeBytes) continue
    const url = `${request.endpoint}/${id}/resolve/${commit}/${file.path.split('/').map(encodeURIComponent).join('/')}`
    await fetchFile(request, url, destination, {
      name: file.path,
      sha256: file.sha256,
      sizeBytes: file.sizeBytes,
      onProgress: options.onProgress,
    })
  }
  await rm(join(folder, commitName), { force: true })
  return { source: 'hub', revision: commit, files: selected.map((file) => file.path) }
}

/** The files that this package reads, out of all that a repository holds: not the weights of other frameworks. */
export function selectModelFiles(files: readonly HubFile[]): HubFile[] {
  const paths = new Set(files.map((file) => file.path))
  const weights = selectWeights(paths)
  return files.filter(({ path }) => isSafePath(path) && (isSettings(path) || weights.has(path)))
}

/** A listing comes from outside: nothing in it may leave the folder. */
function isSafePath(path: string): boolean {
  return path.split('/').every((part) => /^\w[\w.+-]*$/.test(part))
}

function isSettings(path: string): boolean {
  if (/^(config|modules|special_tokens_map|config_sentence_transformers|golden)\.json$/.test(path))
    return true
  if (/^(tokenizer|sentence_)[^/]*\.json$/.test(path)) return true
  // Modules after the transformer: 1_Pooling, 2_Dense; the latter has weights.
  if (/^\d+_[^/]+\/model\.safetensors$/.test(path)) return true
  return /^[^/]+\/config\.json$/.test(path) && !/^(onnx|openvino)\//.test(path)
}

/** One whole file before shards, both before other names; ONNX only when there is nothing else. */
function selectWeights(paths: ReadonlySet<string>): ReadonlySet<string> {
  if (paths.has('model.safetensors')) return new Set(['model.safetensors'])
  const atRoot = [...paths].filter((path) => /^[^/]+\.safetensors(\.index\.json)?$/.test(path))
  const shards = atRoot.filter((path) => /^model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$/.test(path))
  if (shards.some((path) => path.endsWith('.safetensors'))) return new Set(shards)
  if (atRoot.some((path) => path.endsWith('.safetensors'))) return new Set(atRoot)
  return new Set(['onnx/model.onnx', 'onnx/model.onnx_data'])
}

interface HubRequest {
  readonly id: string
  readonly endpoint: string
  readonly options: HubOptions
  readonly headers: Readonly<Record<string, string>>
}

// Says which commit the files of an unfinished folder belong to.
const commitName = '.commit'

async function listFiles(
  request: HubRequest,
  folder: string,
): Promise<{ commit: string; files: readonly HubFile[] }> {
  const { endpoint, id, options } = request
  const url = `${endpoint}/api/models/${id}/revision/${encodeURIComponent(options.revision ?? 'main')}?blobs=true`
  const path = join(folder, '.listing.json')
  // By way of a file: the listing gets the same retries as everything else.
  await fetchFile(request, url, path, {
    name: id,
    onProgress: options.onProgress,
    // A listing takes well under a second; a hub that is silent here should not keep others waiting.
    stallTimeoutMs: options.stallTimeoutMs ?? 10_000,
  })
  const listing = parseListing(await readFile(path, 'utf8'))
  await rm(path, { force: true })
  if (listing === undefined)
    throw new EmbedError('DOWNLOAD_FAILED', { url, reason: 'the answer is not a list of model files' })
  const files = listing.siblings.map(({ rfilename, size, lfs }) => ({
    path: rfilename,
    sizeBytes: lfs?.size ?? size,
    sha256: lfs?.sha256,
  }))
  return { commit: listing.sha, files }
}

function parseListing(text: string): Type.Static<typeof listingSchema> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return Check(listingSchema, value) ? value : undefined
  } catch {
    return undefined
  }
}

async function fetchFile(
  request: HubRequest,
  url: string,
  destination: string,
  file: DownloadOptions,
): Promise<void> {
  const { signal, connectTimeoutMs, stallTimeoutMs, retryDelayMs } = request.options
  const limits = Object.fromEntries(
    Object.entries({ connectTimeoutMs, stallTimeoutMs, retryDelayMs }).filter(
      ([, value]) => value !== undefined,
    ),
  )
  try {
    await downloadFile(url, destination, { ...limits, ...file, headers: request.headers, signal })
  } catch (error) {
    const status = httpStatusOf(error)
    if (status !== 401 && status !== 403) throw error
    const { id, endpoint, options } = request
    const hasToken = options.token !== undefined
    throw new EmbedError('MODEL_ACCESS_DENIED', { model: id, status, endpoint, hasToken }, { cause: error })
  }
}

function assertUsable({ id, endpoint }: HubRequest, selected: readonly HubFile[]): void {
  const paths = selected.map((file) => file.path)
  const folder = `${endpoint}/${id}`
  const fix = 'choose another model, or convert it'
  if (!paths.includes('config.json'))
    throw new EmbedError('MODEL_FILE_MISSING', { folder, file: 'config.json', fix })
  if (!paths.some((path) => /^[^/]+\.safetensors$/.test(path) || path === 'onnx/model.onnx'))
    throw new EmbedError('MODEL_FILE_MISSING', {
      folder,
      file: 'model.safetensors and no onnx/model.onnx',
      fix,
    })
}

async function keepOnlyCommit(folder: string, commit: string): Promise<void> {
  const path = join(folder, commitName)
  try {
    if ((await readFile(path, 'utf8').catch(() => undefined)) === commit) return
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { recursive: true })
    await writeFile(path, commit)
  } catch (error) {
    throw toWriteError(error, folder)
  }
}

function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    (found) => found.size,
    () => undefined,
  )
}
