/** tuned.json: what was found to be fast, and for which model and machine that holds. */
import { readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { EmbedError, toReason } from '../../errors.ts'
import type { Settings } from './side.ts'

const keySchema = Type.Object({
  model: Type.String(),
  /** SHA-256 over the model's files. */
  modelHash: Type.String(),
  cpu: Type.String(),
  usableCores: Type.Number(),
  /** Name and driver; absent where there is none. */
  gpu: Type.Optional(Type.String()),
  /** Of this package. */
  packageVersion: Type.String(),
})
export type TunedKey = Readonly<Static<typeof keySchema>>

const figuresSchema = Type.Object({
  textsPerSecond: Type.Number(),
  p50Ms: Type.Number(),
  p95Ms: Type.Number(),
  p99Ms: Type.Number(),
  /** Where texts/s of one more round would lie in 19 of 20 cases; absent where too few rounds were made. */
  expected: Type.Optional(Type.Object({ low: Type.Number(), high: Type.Number() })),
})

const tunedSchema = Type.Object({
  version: Type.Literal(1),
  date: Type.String(),
  /** Of the incumbent: 'baseline' or that of the experiment that gave it. */
  id: Type.String(),
  key: keySchema,
  /** Configuration keys and values. */
  settings: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()])),
  /** Length of a round when it was measured; absent in older files. */
  roundMs: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  /** What it gave when it was measured, by scenario; what verify compares with. */
  measured: Type.Record(Type.String(), figuresSchema),
})
export type TunedFile = Omit<Readonly<Static<typeof tunedSchema>>, 'settings'> & {
  readonly settings: Settings
}
const validator = Compile(tunedSchema)

/** @throws {EmbedError} FILE_UNREADABLE, FILE_FORMAT */
export function readTunedFile(path: string): TunedFile {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(path, 'utf8'))
  } catch (cause) {
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(cause) }, { cause })
  }
  if (validator.Check(value)) return value
  const [first] = validator.Errors(value)
  const reason = `it is no tuned configuration: ${first?.instancePath ?? ''} ${first?.message ?? ''}`
  throw new EmbedError('FILE_FORMAT', { path, reason })
}

/** A crash leaves the old file or the new one. @throws {EmbedError} FILE_UNWRITABLE */
export async function writeTunedFile(path: string, tuned: TunedFile): Promise<void> {
  try {
    await writeFile(`${path}.partial`, `${JSON.stringify(tuned, null, 2)}\n`)
    await rename(`${path}.partial`, path)
  } catch (cause) {
    const fix = 'give --output a folder that can be written'
    throw new EmbedError('FILE_UNWRITABLE', { path, reason: toReason(cause), fix }, { cause })
  }
}

/** @throws {EmbedError} TUNED_STALE naming each difference */
export function assertTunedFits(path: string, tuned: TunedFile, key: TunedKey): void {
  const differences = (Object.keys(tuned.key) as (keyof TunedKey)[])
    .filter((name) => tuned.key[name] !== key[name])
    .map((name) => `${name} was ${tuned.key[name]}, here it is ${key[name] ?? 'none'}`)
  if (differences.length > 0) throw new EmbedError('TUNED_STALE', { path, differences })
}
