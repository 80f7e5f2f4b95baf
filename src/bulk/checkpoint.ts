import { readFile, rm } from 'node:fs/promises'
import { EmbedError, toReason } from '../errors.ts'
import type { WriterCheckpoint } from './vectors.ts'
import { replaceFile } from './writers/partial-file.ts'

const checkpointVersion = 1

/** What must be the same for two runs to be one: input, model, options. */
export type RunIdentity = Readonly<Record<string, string | number | boolean>>

/** How far a run has come; all of it is on the disk. */
export interface Checkpoint {
  readonly identity: RunIdentity
  /** Index of the first record that is not done. */
  readonly nextIndex: number
  /** Bytes of the input up to there; 0 where they are not known. */
  readonly inputBytes: number
  readonly tokens: number
  readonly truncated: number
  readonly skipped: number
  /** Stands for the texts up to there. */
  readonly textsDigest: string
  /** The input file as it was; null for stdin. */
  readonly inputFile: { readonly totalBytes: number; readonly modifiedMs: number } | null
  readonly writer: WriterCheckpoint
}

export function toCheckpointPath(output: string): string {
  return `${output}.progress.json`
}

/** Resolves when the checkpoint would survive a power cut. @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE */
export async function saveCheckpoint(path: string, checkpoint: Checkpoint): Promise<void> {
  const { identity, ...rest } = checkpoint
  const text = JSON.stringify({ version: checkpointVersion, identity, ...rest }, null, 2)
  await replaceFile(path, Buffer.from(`${text}\n`))
}

/** The checkpoint of an earlier run of the same identity; undefined when there is none.
 * @throws {EmbedError} CHECKPOINT_MISMATCH naming what differs, FILE_FORMAT */
export async function loadCheckpoint(path: string, identity: RunIdentity): Promise<Checkpoint | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(error) }, { cause: error })
  }
  const stored = parseCheckpoint(text, path)
  const names = new Set([...Object.keys(identity), ...Object.keys(stored.identity)])
  const differences = [...names]
    .filter((name) => stored.identity[name] !== identity[name])
    .map((name) => `${name} was ${toText(stored.identity[name])}, now it is ${toText(identity[name])}`)
  if (differences.length > 0) throw new EmbedError('CHECKPOINT_MISMATCH', { path, differences })
  return stored
}

export async function removeCheckpoint(path: string): Promise<void> {
  await rm(path, { force: true })
}

function parseCheckpoint(text: string, path: string): Checkpoint {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  if (isCheckpoint(value)) return value
  const reason = 'this is no progress file of this version; start over with --no-resume'
  throw new EmbedError('FILE_FORMAT', { path, reason })
}

function isCheckpoint(value: unknown): value is Checkpoint {
  if (!isObject(value) || value['version'] !== checkpointVersion || !isObject(value['identity'])) return false
  const counts = [
    value['nextIndex'],
    value['inputBytes'],
    value['tokens'],
    value['truncated'],
    value['skipped'],
  ]
  const writer = value['writer']
  if (typeof value['textsDigest'] !== 'string' || typeof value['inputFile'] !== 'object') return false
  return counts.every(isCount) && isObject(writer) && isCount(writer['records']) && isCount(writer['bytes'])
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function isCount(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 0
}

function toText(value: string | number | boolean | undefined): string {
  return value === undefined ? 'not set' : String(value)
}
