import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Type } from 'typebox'
import { Check } from 'typebox/value'
import { toWriteError } from './file-error.ts'
import { type LockOptions, withLock } from './lock.ts'

const completeMarkerSchema = Type.Object({
  source: Type.Union([Type.Literal('hub'), Type.Literal('pypi')]),
  revision: Type.String(),
  files: Type.Array(Type.Object({ path: Type.String(), sizeBytes: Type.Integer({ minimum: 0 }) })),
})

/** What makes a cache folder usable: where it came from, and every file of it with its size. */
export type CompleteMarker = Type.Static<typeof completeMarkerSchema>

export interface FilledFolder {
  readonly source: CompleteMarker['source']
  readonly revision: string
  /** Relative to the folder, with '/'. */
  readonly files: readonly string[]
}

export interface Filled {
  readonly marker: CompleteMarker
  /** The folder was filled before, or by another process meanwhile. */
  readonly wasThere: boolean
}

const markerName = '.complete'

/** The marker of a folder, if it is there and every file that it names has its size. */
export async function readComplete(folder: string): Promise<CompleteMarker | undefined> {
  const text = await readFile(join(folder, markerName), 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const marker = parseMarker(text)
  if (marker === undefined) return undefined
  for (const file of marker.files)
    if ((await sizeOf(join(folder, file.path))) !== file.sizeBytes) return undefined
  return marker
}

/** Fills a cache folder once, whoever asks: one process works, the others wait for it and use the result. The marker is
 * written last, so a folder left half-way is filled again.
 * @throws {EmbedError} CACHE_LOCKED, REQUEST_CANCELLED, NO_SPACE, FILE_UNWRITABLE; and what `fill` throws */
export async function fillOnce(
  folder: string,
  fill: () => Promise<FilledFolder>,
  options: LockOptions = {},
): Promise<Filled> {
  const found = await readComplete(folder)
  if (found !== undefined) return { marker: found, wasThere: true }
  return withLock(`${folder}.lock`, options, () => fillLocked(folder, fill))
}

async function fillLocked(folder: string, fill: () => Promise<FilledFolder>): Promise<Filled> {
  const filledMeanwhile = await readComplete(folder)
  if (filledMeanwhile !== undefined) return { marker: filledMeanwhile, wasThere: true }
  const path = join(folder, markerName)
  await rm(path, { force: true })
  const { source, revision, files } = await fill()
  try {
    const sizes = await Promise.all(
      files.map(async (file) => ({ path: file, sizeBytes: (await stat(join(folder, file))).size })),
    )
    const marker: CompleteMarker = { source, revision, files: sizes }
    await writeFile(`${path}.new`, `${JSON.stringify(marker, undefined, 2)}\n`)
    await rename(`${path}.new`, path)
    return { marker, wasThere: false }
  } catch (error) {
    throw toWriteError(error, path)
  }
}

function parseMarker(text: string): CompleteMarker | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return Check(completeMarkerSchema, value) ? value : undefined
  } catch {
    return undefined
  }
}

function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    (found) => found.size,
    () => undefined,
  )
}
