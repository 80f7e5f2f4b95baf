/** Plans on disk, one folder each: `engine.plan`, `layers.json` (the inspector's words) and `record.json`, written as one.
 * The folder's name holds the key of all that decided on the plan. What is replaced stays as `.bak` until it is pruned. */
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Type } from 'typebox'
import { Check } from 'typebox/value'
import { viewPieces } from '../../hardware/ffi/library.ts'
import type { PlanMemory } from '../../hardware/ffi/tensorrt/runtime.ts'
import { toReason } from '../../errors.ts'
import { writeAtomically, writeFully } from '../../model/onnx/atomic-file.ts'
import { toWriteError } from '../../model/pull/file-error.ts'
import {
  describeDifferences,
  type EngineIdentity,
  identitySchema,
  toFileName,
  toKey,
} from './engine-identity.ts'
import type { Plan } from './plan.ts'

const recordSchema = Type.Object({
  identity: identitySchema,
  sizeBytes: Type.Integer(),
  /** With the size it tells an untouched file; another time makes the hash be compared. */
  mtimeMs: Type.Number(),
  sha256: Type.String(),
  builtInMs: Type.Number(),
  builtAt: Type.String(),
  /** What the builder said it would use, and the libraries found in memory after the build. */
  tacticSources: Type.Array(Type.String()),
  loadedLibraries: Type.Array(Type.String()),
  /** ONNX nodes that multiply by weights. */
  linearNodes: Type.Array(Type.String()),
})
export type EngineRecord = Type.Static<typeof recordSchema>

export interface NewEngine {
  readonly plan: PlanMemory
  /** The inspector's JSON. */
  readonly layers: string
  readonly builtInMs: number
  readonly tacticSources: readonly string[]
  readonly loadedLibraries: readonly string[]
  /** ONNX nodes that multiply by weights. */
  readonly linearNodes: readonly string[]
}

/** `reason`: why what is there cannot be used. */
export type CacheAnswer = { readonly plan: Plan } | { readonly plan: undefined; readonly reason: string }

/** One folder of `cachePath/<model>/`. */
export function entryFolder(cachePath: string, identity: EngineIdentity): string {
  const names = [...new Set(identity.profiles.map(({ name }) => name))].join('+')
  const entry = `${identity.precision}-${names}-${toKey(identity).slice(0, 16)}`
  return join(cachePath, toFileName(identity.model), toFileName(entry))
}

/** A plan that fits the identity to the letter and whose file is whole. */
export async function readEngine(cachePath: string, identity: EngineIdentity): Promise<CacheAnswer> {
  const folder = entryFolder(cachePath, identity)
  if (!(await exists(folder))) return { plan: undefined, reason: 'it was never built' }
  const record = await readRecord(folder)
  if (record === undefined) return corrupt(folder, 'record.json is missing or damaged')
  if (toKey(record.identity) !== toKey(identity)) {
    const differences = describeDifferences(record.identity, identity)
    const what = differences.length > 0 ? differences.join('; ') : 'other settings'
    return { plan: undefined, reason: `${folder} is an engine of another machine (${what})` }
  }
  const path = planPath(folder)
  const damage = await findDamage(path, record)
  return damage === undefined ? { plan: toPlan(path, record, true) } : corrupt(folder, damage)
}

/** Writes a new engine whole or not at all; what stood in its place becomes a backup.
 * @throws {EmbedError} NO_SPACE, FILE_UNWRITABLE */
export async function writeEngine(
  cachePath: string,
  identity: EngineIdentity,
  engine: NewEngine,
): Promise<Plan> {
  const folder = entryFolder(cachePath, identity)
  const temporary = `${folder}.${randomUUID()}.tmp`
  const path = planPath(temporary)
  try {
    await mkdir(temporary, { recursive: true })
    const sha256 = await writePlan(path, engine.plan)
    // Whole milliseconds: copies and archives keep no more.
    const writtenAt = new Date(Math.floor(Date.now()))
    await utimes(path, writtenAt, writtenAt)
    const { plan, layers, ...rest } = engine
    const record: EngineRecord = {
      identity,
      sizeBytes: plan.bytes,
      mtimeMs: writtenAt.getTime(),
      sha256,
      builtAt: writtenAt.toISOString(),
      builtInMs: Math.round(rest.builtInMs),
      tacticSources: [...rest.tacticSources],
      loadedLibraries: [...rest.loadedLibraries],
      linearNodes: [...rest.linearNodes],
    }
    await writeText(layersPath(path), layers)
    await writeText(join(temporary, recordName), `${JSON.stringify(record, undefined, 1)}\n`)
    await setAside(folder)
    await rename(temporary, folder)
    return toPlan(planPath(folder), record, false)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw toWriteError(error, folder, engine.plan.bytes)
  }
}

/** Renames an entry to `.bak`, if it is there. @returns its new path */
export async function setAside(folder: string): Promise<string | undefined> {
  if (!(await exists(folder))) return undefined
  const backup = `${folder}.${Date.now()}.bak`
  await rename(folder, backup)
  return backup
}

export interface CacheEntry {
  readonly folder: string
  readonly kind: 'engine' | 'backup' | 'unfinished'
  /** Undefined where it cannot be read. */
  readonly record: EngineRecord | undefined
  readonly sizeBytes: number
  /** Since the folder was last written to. */
  readonly ageMs: number
}

/** Everything in the cache, model by model. */
export async function listEngines(cachePath: string): Promise<CacheEntry[]> {
  const models = await listFolders(cachePath)
  const folders = (await Promise.all(models.map((model) => listFolders(model)))).flat().sort()
  return Promise.all(
    folders.map(
      async (folder): Promise<CacheEntry> => ({
        folder,
        ageMs: Date.now() - ((await stat(folder).catch(() => undefined))?.mtimeMs ?? 0),
        kind: folder.endsWith('.bak') ? 'backup' : folder.endsWith('.tmp') ? 'unfinished' : 'engine',
        record: await readRecord(folder),
        sizeBytes: (await stat(planPath(folder)).catch(() => undefined))?.size ?? 0,
      }),
    ),
  )
}

export async function removeEntry({ folder }: CacheEntry): Promise<void> {
  await rm(folder, { recursive: true, force: true })
}

/** The inspector's JSON of a plan in the cache. */
export function layersPath(planFile: string): string {
  return join(dirname(planFile), 'layers.json')
}

const recordName = 'record.json'

function planPath(folder: string): string {
  return join(folder, 'engine.plan')
}

export async function readRecord(folder: string): Promise<EngineRecord | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(folder, recordName), 'utf8'))
    return Check(recordSchema, value) ? value : undefined
  } catch {
    return undefined
  }
}

/** Hashed piece by piece on the way: OpenSSL takes at most 2 GiB at once, and the event loop turns in between. */
async function writePlan(path: string, plan: PlanMemory): Promise<string> {
  const hash = createHash('sha256')
  const pieceBytes = 1 << 26
  await writeAtomically([
    {
      path,
      neededBytes: plan.bytes,
      write: async (file) => {
        for (const piece of viewPieces(plan.pointer, plan.bytes, pieceBytes)) {
          hash.update(piece)
          await writeFully(file, piece)
        }
      },
    },
  ])
  return hash.digest('hex')
}

async function findDamage(path: string, record: EngineRecord): Promise<string | undefined> {
  try {
    const { size, mtimeMs } = await stat(path)
    if (size !== record.sizeBytes) return `${basename(path)} has ${size} bytes of ${record.sizeBytes}`
    if (Math.round(mtimeMs) === record.mtimeMs) return undefined
    const hash = createHash('sha256')
    await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash)
    return hash.digest('hex') === record.sha256 ? undefined : `the bytes of ${basename(path)} have changed`
  } catch (error) {
    return toReason(error)
  }
}

function toPlan(path: string, { identity, sizeBytes, builtInMs }: EngineRecord, fromCache: boolean): Plan {
  const { precision, profiles, inputs, output } = identity
  return { path, sizeBytes, precision, profiles, inputs, output, builtInMs, fromCache }
}

function corrupt(folder: string, damage: string): CacheAnswer {
  return { plan: undefined, reason: `${folder} is damaged: ${damage}` }
}

function writeText(path: string, text: string): Promise<void> {
  const bytes = Buffer.from(text)
  return writeAtomically([{ path, neededBytes: bytes.length, write: (file) => writeFully(file, bytes) }])
}

async function listFolders(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  return entries.filter((entry) => entry.isDirectory()).map((entry) => join(folder, entry.name))
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
