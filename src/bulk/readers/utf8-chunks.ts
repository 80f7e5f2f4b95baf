import { isUtf8 } from 'node:buffer'
import { EmbedError } from '../../errors.ts'

const lineFeed = 0x0a

const signatures: readonly { readonly bytes: readonly number[]; readonly reason: string }[] = [
  { bytes: [0x50, 0x41, 0x52, 0x31], reason: 'this is a parquet file; give --input-format parquet' },
  { bytes: [0x1f, 0x8b], reason: 'this is a gzip file; unpack it first' },
  { bytes: [0x28, 0xb5, 0x2f, 0xfd], reason: 'this is a zstd file; unpack it first' },
  { bytes: [0x50, 0x4b, 0x03, 0x04], reason: 'this is a zip file; unpack it first' },
  { bytes: [0xff, 0xfe], reason: 'this is UTF-16 text; convert it to UTF-8' },
  { bytes: [0xfe, 0xff], reason: 'this is UTF-16 text; convert it to UTF-8' },
]

export interface Utf8Chunk {
  /** Valid UTF-8 of whole characters. */
  readonly bytes: Buffer
  /** Bytes of the file before this chunk. */
  readonly startBytes: number
}

/** The bytes of a text file without a byte order mark, checked: valid UTF-8 and no NUL anywhere.
 * @throws {EmbedError} FILE_FORMAT with the line */
export async function* readUtf8Chunks(
  source: AsyncIterable<Uint8Array>,
  options: { readonly path: string },
): AsyncGenerator<Utf8Chunk> {
  const { path } = options
  let carried: Uint8Array = new Uint8Array(0)
  let startBytes = 0
  let lineCount = 0
  let headChecked = false

  const check = (bytes: Buffer): void => {
    const nul = bytes.indexOf(0)
    if (isUtf8(bytes) && nul < 0) return
    const badAt = toFirstInvalid(bytes)
    const at = nul >= 0 && nul < badAt ? nul : badAt
    const line = lineCount + countLines(bytes.subarray(0, at)) + 1
    const reason =
      at === badAt ? 'invalid UTF-8; convert the file to UTF-8' : 'a NUL byte; this is no text file'
    throw new EmbedError('FILE_FORMAT', { path, reason: `line ${line}: ${reason}` })
  }

  for await (const piece of source) {
    let bytes = Buffer.concat([carried, piece])
    if (!headChecked) {
      if (bytes.length < 4) {
        carried = bytes
        continue
      }
      checkHead(bytes, path)
      headChecked = true
      const markBytes = toMarkBytes(bytes)
      startBytes += markBytes
      bytes = bytes.subarray(markBytes)
    }
    const wholeBytes = bytes.length - toOpenBytes(bytes)
    carried = bytes.subarray(wholeBytes)
    const whole = bytes.subarray(0, wholeBytes)
    check(whole)
    yield { bytes: whole, startBytes }
    startBytes += wholeBytes
    lineCount += countLines(whole)
  }

  let rest = Buffer.from(carried)
  if (!headChecked) {
    checkHead(rest, path)
    const markBytes = toMarkBytes(rest)
    startBytes += markBytes
    rest = rest.subarray(markBytes)
  }
  check(rest)
  if (rest.length > 0) yield { bytes: rest, startBytes }
}

function checkHead(bytes: Buffer, path: string): void {
  const signature = signatures.find((known) => known.bytes.every((byte, place) => bytes[place] === byte))
  if (signature) throw new EmbedError('FILE_FORMAT', { path, reason: signature.reason })
}

function toMarkBytes(bytes: Buffer): number {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0
}

/** Bytes at the end that begin a character and do not finish it. */
function toOpenBytes(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back]!
    if (byte < 0x80) return 0
    if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0
  }
  return 0
}

/** Place of the first byte that starts no character; the length when all is valid. */
function toFirstInvalid(bytes: Buffer): number {
  if (isUtf8(bytes)) return bytes.length
  // The longest valid prefix is found by halving; a prefix that ends inside a character counts as valid.
  let valid = 0
  let invalid = bytes.length
  while (invalid - valid > 1) {
    const middle = (valid + invalid) >> 1
    const prefix = bytes.subarray(0, middle)
    if (isUtf8(prefix.subarray(0, middle - toOpenBytes(prefix)))) valid = middle
    else invalid = middle
  }
  return valid
}

function countLines(bytes: Uint8Array): number {
  let count = 0
  for (let at = bytes.indexOf(lineFeed); at >= 0; at = bytes.indexOf(lineFeed, at + 1)) count += 1
  return count
}
