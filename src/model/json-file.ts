import { readFile } from 'node:fs/promises'
import type { Static, TSchema } from 'typebox'
import { Check, Errors } from 'typebox/value'
import { EmbedError, toReason } from '../errors.ts'

/** A JSON file of a model folder, checked against `schema`; undefined when there is no such file.
 * @throws {EmbedError} MODEL_FILE_CORRUPT (not JSON, wrong types), FILE_UNREADABLE */
export async function readJsonFile<Schema extends TSchema>(
  path: string,
  schema: Schema,
): Promise<Static<Schema> | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw new EmbedError('FILE_UNREADABLE', { path, reason: toReason(error) }, { cause: error })
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new EmbedError('MODEL_FILE_CORRUPT', { file: path, reason: toReason(error) }, { cause: error })
  }
  if (Check(schema, value)) return value
  const [first] = Errors(schema, value)
  const where = first?.instancePath ? `at ${first.instancePath} ` : ''
  throw new EmbedError('MODEL_FILE_CORRUPT', {
    file: path,
    reason: `${where}${first?.message ?? 'not the expected shape'}`,
  })
}

/** ENOENT, or ENOTDIR: a part of the path is a file. */
export function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}
