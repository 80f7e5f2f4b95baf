import type { ReaderOptions, SourceRecord } from '../corpus.ts'
import { readLines } from './lines.ts'

/** One text a line. @throws {EmbedError} FILE_FORMAT */
export async function* readText(
  source: AsyncIterable<Uint8Array>,
  options: ReaderOptions,
): AsyncGenerator<SourceRecord> {
  for await (const { index, text, endBytes } of readLines(source, options)) {
    yield { index, text, line: index + 1, endBytes }
  }
}
