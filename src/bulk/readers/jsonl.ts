import { EmbedError, toReason } from '../../errors.ts'
import type { ReaderOptions, SourceRecord } from '../corpus.ts'
import { readLines } from './lines.ts'

/** A JSON string or an object with a text a line; a blank line and a null are records without text.
 * @throws {EmbedError} FILE_FORMAT with the line */
export async function* readJsonl(
  source: AsyncIterable<Uint8Array>,
  options: ReaderOptions,
): AsyncGenerator<SourceRecord> {
  for await (const { index, text, endBytes } of readLines(source, options)) {
    yield { index, line: index + 1, endBytes, ...toRecord(text, index + 1, options) }
  }
}

function toRecord(
  json: string,
  line: number,
  { path, textColumn, idColumn }: ReaderOptions,
): { text: string | null; id?: string } {
  const fail = (reason: string, cause?: unknown): EmbedError =>
    new EmbedError('FILE_FORMAT', { path, reason: `line ${line}: ${reason}` }, { cause })

  if (json.trim() === '') return { text: null }
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (error) {
    throw fail(`not JSON: ${toReason(error)}`, error)
  }
  if (typeof value === 'string' && idColumn === undefined) return { text: value }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const wanted = idColumn === undefined ? 'an object or a string' : 'an object'
    throw fail(`the line holds ${toKind(value)}, wanted ${wanted}`)
  }
  const fields = new Map<string, unknown>(Object.entries(value))
  const missing = (column: string, flag: string): EmbedError =>
    fail(
      `no '${column}'; the object has ${[...fields.keys()].join(', ') || 'nothing'}; name one with ${flag}`,
    )

  const text = fields.get(textColumn)
  if (text === undefined) throw missing(textColumn, '--text-column')
  if (typeof text !== 'string' && text !== null) {
    throw fail(`'${textColumn}' is ${toKind(text)}, wanted a string`)
  }
  if (idColumn === undefined) return { text }
  const id = fields.get(idColumn)
  if (id === undefined) throw missing(idColumn, '--id-column')
  if (typeof id !== 'string' && typeof id !== 'number') {
    throw fail(`'${idColumn}' is ${toKind(id)}, wanted a string or a number`)
  }
  return { text, id: String(id) }
}

function toKind(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'an array' : typeof value === 'object' ? 'an object' : `a ${typeof value}`
}
