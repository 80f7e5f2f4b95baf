import { EmbedError, toReason } from '../../errors.ts'

/** Why writing below a cache folder failed, as an error a user can act on. An EmbedError is handed back as it is.
 * @returns NO_SPACE for a full disk or quota, else FILE_UNWRITABLE */
export function toWriteError(error: unknown, path: string, neededBytes?: number): EmbedError {
  if (error instanceof EmbedError) return error
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? new EmbedError('NO_SPACE', neededBytes === undefined ? { path } : { path, neededBytes }, {
        cause: error,
      })
    : new EmbedError('FILE_UNWRITABLE', { path, reason: toReason(error) }, { cause: error })
}
