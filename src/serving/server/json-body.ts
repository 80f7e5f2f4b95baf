/** How a body becomes a value: JSON in valid UTF-8, without `__proto__` and `constructor` keys. */
import { isUtf8 } from 'node:buffer'
import type { FastifyInstance } from 'fastify'
import { EmbedError } from '../../errors.ts'

/** Node would turn invalid bytes into U+FFFD and embed a text that nobody sent.
 * @param contentType '*' for every type: Ollama takes what `curl -d` sends. */
export function parseJsonBodies(app: FastifyInstance, contentType: 'application/json' | '*'): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(contentType, { parseAs: 'buffer' }, (request, body, done) => {
    const bytes = body as Buffer
    if (!isUtf8(bytes)) {
      done(new EmbedError('INVALID_JSON', { reason: 'it is not valid UTF-8' }))
      return
    }
    void parse(request, bytes.toString('utf8'), done)
  })
}
