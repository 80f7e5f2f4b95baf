import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { CorpusRecord } from './corpus.ts'
import { inspectCorpus, readCorpus } from './read-corpus.ts'
import type { ReadCorpusOptions } from './read-corpus.ts'

const fixtures = fileURLToPath(new URL('../../test/fixtures/bulk/', import.meta.url))
let folder: string
let fileCount = 0

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'read-corpus-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function toFile(content: string | Uint8Array, extension: string): Promise<string> {
  fileCount += 1
  const path = join(folder, `${fileCount}${extension}`)
  await writeFile(path, content)
  return path
}

async function readAll(path: string, options: ReadCorpusOptions = {}): Promise<CorpusRecord[]> {
  const records: CorpusRecord[] = []
  for await (const record of readCorpus(path, options)) records.push(record)
  return records
}

async function toTexts(path: string, options: ReadCorpusOptions = {}): Promise<string[]> {
  return (await readAll(path, options)).map(({ text }) => text)
}

/** A stream of small pieces, so that characters and line ends are cut anywhere. */
function toPieces(content: string, pieceBytes: number): Readable {
  const bytes = Buffer.from(content)
  const count = Math.ceil(bytes.length / pieceBytes)
  const pieces = Array.from({ length: count }, (_, i) => bytes.subarray(i * pieceBytes, (i + 1) * pieceBytes))
  return Readable.from(pieces)
}

const line = fc.string({ unit: 'binary', minLength: 1 }).map((text) => text.replace(/[\r\n\0\uFEFF]/g, 'x'))

function quote(text: string): string {
  return `"${text.replaceAll('"', '""')}"`
}

describe('text', () => {
  it('takes LF, CRLF, a byte order mark and a last line without end', async () => {
    const path = await toFile('\uFEFFone\r\ntwo\nthree é', '.txt')
    expect(await readAll(path)).toEqual([
      { index: 0, line: 1, text: 'one', endBytes: 8 },
      { index: 1, line: 2, text: 'two', endBytes: 12 },
      { index: 2, line: 3, text: 'three é', endBytes: 20 },
    ])
    expect((await stat(path)).size).toBe(20)
  })

  it('gives every line back however the stream is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom('\n', '\r\n'),
        fc.boolean(),
        async (lines, pieceBytes, lineEnd, lastEnd) => {
          const content = lines.join(lineEnd) + (lastEnd ? lineEnd : '')
          const stdin = toPieces(content, pieceBytes)
          expect(await toTexts('-', { stdin, format: 'text' })).toEqual(lines)
        },
      ),
    )
  })

  it('starts anywhere with the same places', async () => {
    const path = await toFile('a\nb\nc\nd\n', '.txt')
    const all = await readAll(path)
    for (let startAt = 0; startAt <= 4; startAt += 1) {
      expect(await readAll(path, { startAt })).toEqual(all.slice(startAt))
    }
  })

  it('names the line without text, or leaves it out and keeps the places', async () => {
    const path = await toFile('a\n\nc\n\n', '.txt')
    await expect(readAll(path)).rejects.toMatchObject({
      code: 'FILE_FORMAT',
      message: `${path}: line 2 has no text; drop it, or leave such records out with --on-empty skip`,
    })
    const skipped: number[] = []
    const records = await readAll(path, { onEmpty: 'skip', onSkip: ({ index }) => skipped.push(index) })
    expect(records.map(({ index, text }) => [index, text])).toEqual([
      [0, 'a'],
      [2, 'c'],
    ])
    expect(skipped).toEqual([1, 3])
  })

  it('reads an empty file as no records', async () => {
    expect(await readAll(await toFile('', '.txt'))).toEqual([])
    expect(await readAll(await toFile('\uFEFF', '.txt'))).toEqual([])
    expect(await toTexts(await toFile('ab', '.txt'))).toEqual(['ab'])
  })

  it.each([
    ['invalid UTF-8', Buffer.from([0x61, 0x0a, 0x62, 0x0a, 0xc3, 0x28, 0x0a]), 'line 3: invalid UTF-8'],
    [
      'a cut character at the end',
      Buffer.from([0x61, 0x62, 0x63, 0x0a, 0x64, 0xe2, 0x82]),
      'line 2: invalid UTF-8',
    ],
    ['a lone continuation byte', Buffer.from([0x61, 0x62, 0x63, 0x64, 0x0a, 0x80]), 'line 2: invalid UTF-8'],
    ['a NUL', Buffer.from('one\ntwo\nthr\0ee\n'), 'line 3: a NUL byte; this is no text file'],
    ['gzip', Buffer.from([0x1f, 0x8b, 0x08, 0x00, 0x00]), 'this is a gzip file; unpack it first'],
    ['UTF-16', Buffer.from([0xff, 0xfe, 0x61, 0x00]), 'this is UTF-16 text; convert it to UTF-8'],
    ['parquet', Buffer.from('PAR1....'), 'this is a parquet file; give --input-format parquet'],
  ])('names the place of %s', async (_, content, reason) => {
    const path = await toFile(content, '.txt')
    await expect(readAll(path)).rejects.toMatchObject({ code: 'FILE_FORMAT' })
    await expect(readAll(path)).rejects.toThrow(`${path}: ${reason}`)
  })

  it('names the line of invalid UTF-8 far behind the first block', async () => {
    const good = Buffer.from('gut gemacht: äöü\n'.repeat(50_000))
    const path = await toFile(Buffer.concat([good, Buffer.from([0x61, 0xff, 0x0a]), good]), '.txt')
    await expect(readAll(path)).rejects.toThrow('line 50001: invalid UTF-8')
  })
})

describe('jsonl', () => {
  it('takes objects and bare strings, null and blank lines are records without text', async () => {
    const path = await toFile('{"text":"a","id":7}\n"b\\n\\u00e9"\r\n\n{"text":null}\n{"text":"e"}', '.jsonl')
    const records = await readAll(path, { onEmpty: 'skip' })
    expect(records.map(({ index, text }) => [index, text])).toEqual([
      [0, 'a'],
      [1, 'b\né'],
      [4, 'e'],
    ])
    await expect(readAll(path)).rejects.toThrow('line 3 has no text')
  })

  it('takes text and id from the columns named', async () => {
    const path = await toFile('{"doc":7,"body":"a"}\n{"doc":"x","body":"b"}\n', '.jsonl')
    expect(await readAll(path, { textColumn: 'body', idColumn: 'doc' })).toMatchObject([
      { index: 0, id: '7', text: 'a' },
      { index: 1, id: 'x', text: 'b' },
    ])
  })

  it('gives any text back however the stream is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: 'grapheme', minLength: 1 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 9 }),
        async (texts, pieceBytes) => {
          const stdin = toPieces(texts.map((text) => `${JSON.stringify({ text })}\n`).join(''), pieceBytes)
          expect(await toTexts('-', { stdin, format: 'jsonl' })).toEqual(texts)
        },
      ),
    )
  })

  it.each([
    ['{"text":"a"}\n{"text":\n', {}, 'line 2: not JSON: '],
    ['{"body":"a","n":1}\n', {}, "line 1: no 'text'; the object has body, n; name one with --text-column"],
    ['{"text":5}\n', {}, "line 1: 'text' is a number, wanted a string"],
    ['[1]\n', {}, 'line 1: the line holds an array, wanted an object or a string'],
    ['{"text":"a"}\n', { idColumn: 'id' }, "line 1: no 'id'; the object has text; name one with --id-column"],
    ['"a"\n', { idColumn: 'id' }, 'line 1: the line holds a string, wanted an object'],
    ['{"text":"a","id":{}}\n', { idColumn: 'id' }, "line 1: 'id' is an object, wanted a string or a number"],
  ])('explains %j', async (content, options, reason) => {
    const path = await toFile(content, '.jsonl')
    await expect(readAll(path, options)).rejects.toMatchObject({ code: 'FILE_FORMAT' })
    await expect(readAll(path, options)).rejects.toThrow(`${path}: ${reason}`)
  })
})

describe('csv', () => {
  it('takes quotes, line ends inside fields, a byte order mark and mixed line ends', async () => {
    const content = '\uFEFFid,text\r\n1,"two\nlines, ""quoted"""\n2,plain é\r\n3,last'
    const path = await toFile(content, '.csv')
    const records = await readAll(path, { idColumn: 'id' })
    expect(records).toMatchObject([
      { index: 0, line: 2, id: '1', text: 'two\nlines, "quoted"' },
      { index: 1, line: 4, id: '2', text: 'plain é' },
      { index: 2, line: 5, id: '3', text: 'last' },
    ])
    expect(records.at(-1)!.endBytes).toBe(Buffer.byteLength(content))
    expect(await readAll(path, { idColumn: 'id', startAt: 2 })).toEqual(records.slice(2))
  })

  it('gives any field back', async () => {
    const field = fc.string({ unit: 'grapheme', minLength: 1 })
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 6 }), async (rows) => {
        const content = `text,id\n${rows.map((row) => row.map(quote).join(',')).join('\n')}\n`
        const records = await readAll(await toFile(content, '.csv'), { idColumn: 'id' })
        expect(records.map(({ text, id }) => [text, id])).toEqual(rows)
      }),
      { numRuns: 50 },
    )
  })

  it.each([
    ['a,b\n1,2\n', "line 1: no column 'text'; it has a, b; name one with --text-column"],
    ['id,text\n1,x\n2,y,z\n', 'line 3: 3 fields, the header has 2'],
    ['id,text\n1,x\n2,"never closed\nand on\n', 'line 3: Quote Not Closed'],
    ['id,text\n1,x\n\n', 'line 3 has no text'],
    ['id,text\n1,\n', 'line 2 has no text'],
  ])('explains %j', async (content, reason) => {
    const path = await toFile(content, '.csv')
    await expect(readAll(path)).rejects.toMatchObject({ code: 'FILE_FORMAT' })
    await expect(readAll(path)).rejects.toThrow(reason)
  })

  it('names the line of invalid UTF-8', async () => {
    const path = await toFile(Buffer.concat([Buffer.from('text\nfine\n'), Buffer.from([0xe9, 0x0a])]), '.csv')
    await expect(readAll(path)).rejects.toThrow('line 3: invalid UTF-8')
  })
})

describe('parquet', () => {
  const expected = Array.from({ length: 25 }, (_, index) => ({
    index,
    id: String(100 + index),
    text: `text ${index}: naïve 日本 🙂`,
  }))

  it.each(['snappy', 'gzip', 'brotli', 'zstd'])(
    'reads what pyarrow wrote with %s, from any row',
    async (codec) => {
      const path = join(fixtures, `texts-${codec}.parquet`)
      expect(await readAll(path, { idColumn: 'doc' })).toEqual(expected)
      for (const startAt of [9, 10, 11, 24, 25]) {
        expect(await readAll(path, { idColumn: 'doc', startAt })).toEqual(expected.slice(startAt))
      }
      expect(await inspectCorpus(path)).toMatchObject({ format: 'parquet', totalRecords: 25 })
    },
  )

  it('treats nulls as records without text', async () => {
    const path = join(fixtures, 'texts-with-holes.parquet')
    await expect(readAll(path)).rejects.toThrow(`${path}: row 1 has no text`)
    expect(await readAll(path, { onEmpty: 'skip' })).toEqual([
      { index: 0, text: 'first' },
      { index: 2, text: 'third' },
    ])
  })

  it.each([
    [
      'texts-snappy',
      { textColumn: 'body' },
      "no column 'body'; it has doc, title, text, tags; name one with --text-column",
    ],
    [
      'texts-snappy',
      { idColumn: 'key' },
      "no column 'key'; it has doc, title, text, tags; name one with --id-column",
    ],
    ['texts-snappy', { textColumn: 'doc' }, "the column 'doc' holds INT64, wanted strings"],
    ['texts-snappy', { textColumn: 'tags' }, "the column 'tags' holds LIST, wanted strings"],
    ['texts-snappy', { idColumn: 'tags' }, "row 0: 'tags' is no string or number, wanted an id"],
    ['texts-not-utf8', {}, "row 1: 'text' is not valid UTF-8"],
  ])('explains %s with %j', async (name, options, reason) => {
    const path = join(fixtures, `${name}.parquet`)
    await expect(readAll(path, options)).rejects.toMatchObject({ code: 'FILE_FORMAT' })
    await expect(readAll(path, options)).rejects.toThrow(`${path}: ${reason}`)
  })

  it('says that a text file is no parquet file', async () => {
    await expect(readAll(await toFile('just some text, long enough', '.parquet'))).rejects.toMatchObject({
      code: 'FILE_FORMAT',
      message: expect.stringContaining('not a parquet file'),
    })
  })
})

describe('paths', () => {
  it('says what is wrong with a path', async () => {
    const missing = join(folder, 'missing.txt')
    const message = `cannot read ${missing}: there is no such file`
    await expect(readAll(missing)).rejects.toMatchObject({ code: 'FILE_UNREADABLE', message })
    await expect(inspectCorpus(missing)).rejects.toMatchObject({ code: 'FILE_UNREADABLE', message })
    await expect(inspectCorpus(folder, { format: 'text' })).rejects.toThrow('it is a folder')
    await expect(readAll(folder, { format: 'text' })).rejects.toThrow('it is a folder')
    await expect(readAll(join(folder, 'missing.parquet'))).rejects.toMatchObject({ code: 'FILE_UNREADABLE' })
    await expect(readAll(join(folder, 'a.docx'))).rejects.toThrow("the extension '.docx' names no format")
    await expect(readAll('-', { format: 'csv' })).rejects.toMatchObject({ code: 'USAGE' })
  })

  it('measures a file', async () => {
    const path = await toFile('a\nb\n', '.txt')
    const { mtimeMs } = await stat(path)
    expect(await inspectCorpus(path)).toEqual({ format: 'text', totalBytes: 4, modifiedMs: mtimeMs })
    expect(await inspectCorpus('-', { format: 'jsonl' })).toEqual({ format: 'jsonl' })
  })

  it('stops waiting for stdin when told to', async () => {
    const stdin = new Readable({ read: () => {} })
    stdin.push('first\n')
    const controller = new AbortController()
    const reader = readCorpus('-', { stdin, signal: controller.signal })
    expect((await reader.next()).value).toMatchObject({ text: 'first' })
    const next = reader.next()
    controller.abort()
    await expect(next).rejects.toThrow('aborted')
  })
})
