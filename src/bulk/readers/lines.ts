import { EmbedError } from '../../errors.ts'
import { readUtf8Chunks } from './utf8-chunks.ts'

const lineFeed = 0x0a
const carriageReturn = 0x0d
const maxLineBytes = 64 * 1024 * 1024

export interface Line {
  /** From 0. */
  readonly index: number
  /** Without its line end. */
  readonly text: string
  /** Bytes of the file up to the end of the line, its line end included. */
  readonly endBytes: number
}

/** The lines from `startAt` on; LF and CRLF end a line, the last one may lack it. Holds one line at a time.
 * @throws {EmbedError} FILE_FORMAT on a line over 64 MiB, invalid UTF-8 and binary files, with the line */
export async function* readLines(
  source: AsyncIterable<Uint8Array>,
  options: { readonly path: string; readonly startAt: number },
): AsyncGenerator<Line> {
  const { path, startAt } = options
  let index = 0
  let endBytes = 0
  let opened: Buffer[] = []
  let openedBytes = 0

  for await (const { bytes, startBytes } of readUtf8Chunks(source, { path })) {
    let from = 0
    for (let at = bytes.indexOf(lineFeed); at >= 0; at = bytes.indexOf(lineFeed, from)) {
      if (index >= startAt) {
        const part = bytes.subarray(from, at)
        const line = opened.length === 0 ? part : Buffer.concat([...opened, part])
        yield { index, text: toText(line), endBytes: startBytes + at + 1 }
      }
      opened = []
      openedBytes = 0
      index += 1
      from = at + 1
    }
    endBytes = startBytes + bytes.length
    if (from === bytes.length) continue
    openedBytes += bytes.length - from
    if (openedBytes > maxLineBytes) {
      const reason = `line ${index + 1} is longer than ${maxLineBytes} bytes; give one text a line`
      throw new EmbedError('FILE_FORMAT', { path, reason })
    }
    opened.push(bytes.subarray(from))
  }
  if (openedBytes > 0 && index >= startAt) yield { index, text: toText(Buffer.concat(opened)), endBytes }
}

function toText(line: Buffer): string {
  return line.toString('utf8', 0, line[line.length - 1] === carriageReturn ? line.length - 1 : line.length)
}
