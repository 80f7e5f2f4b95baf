import { EmbedError } from '../../../errors.ts'

/** What a client may read of a failure that is the server's: nothing of an unexpected one, no paths of the others. The
 * log has it all, under the id of the request. */
export function toPublicError(error: EmbedError, requestId: string): EmbedError {
  if (error.code === 'INTERNAL') {
    return new EmbedError('INTERNAL', {
      reason: `the log of the server tells more under request ${requestId}`,
    })
  }
  const shown = new EmbedError(error.code, error.details)
  shown.message = error.message.replaceAll(absolutePath, (path) => path.split(/[/\\]/).at(-1)!)
  return shown
}

/** Two names at least, after a slash or a drive, and no part of a URL or of a relative path. */
const absolutePath = /(?<![\w:/.\\])(?:[A-Za-z]:\\[\w.@+\\-]+|(?:\/[\w.@+-]+){2,})/g
