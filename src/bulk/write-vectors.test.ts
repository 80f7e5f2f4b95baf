import { existsSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { vectorFormats } from './vectors.ts'
import type { VectorRecord, WriterCheckpoint } from './vectors.ts'
import { openVectorWriter } from './write-vectors.ts'
import { toIdsPath } from './writers/npy.ts'

let folder: string
let fileCount = 0

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'write-vectors-'))
})
afterAll(() => rm(folder, { recursive: true }))

function toPath(extension: string): string {
  fileCount += 1
  return join(folder, `${fileCount}.${extension}`)
}

/** Same vectors for the same index, on every call. */
function toRecords(count: number, dimensions: number, startIndex = 0): VectorRecord[] {
  return Array.from({ length: count }, (_, row) => {
    const index = startIndex + row
    const vector = Float32Array.from(
      { length: dimensions },
      (_value, place) => Math.sin(index * 31 + place) / 7,
    )
    return { index, id: `doc-${index}`, text: `text ${index} é`, vector }
  })
}

async function readNpy(path: string): Promise<{ header: string; values: Float32Array }> {
  const bytes = await readFile(path)
  const dataStart = 10 + bytes.readUInt16LE(8)
  expect(bytes.toString('latin1', 0, 8)).toBe('\x93NUMPY\x01\x00')
  expect(dataStart % 64).toBe(0)
  const values = new Float32Array((bytes.length - dataStart) / 4)
  for (let place = 0; place < values.length; place += 1)
    values[place] = bytes.readFloatLE(dataStart + place * 4)
  return { header: bytes.toString('latin1', 10, dataStart), values }
}

async function readJsonlFile(path: string): Promise<Record<string, unknown>[]> {
  const lines = (await readFile(path, 'utf8')).split('\n')
  expect(lines.pop()).toBe('')
  return lines.map((line): Record<string, unknown> => JSON.parse(line))
}

async function readParquetFile(path: string): Promise<Record<string, unknown>[]> {
  return parquetReadObjects({ file: await asyncBufferFromFile(path) })
}

const vectors = fc.integer({ min: 1, max: 20 }).chain((dimensions) =>
  fc.array(
    fc.float32Array({ minLength: dimensions, maxLength: dimensions, noNaN: true, noDefaultInfinity: true }),
    {
      minLength: 1,
      maxLength: 10,
    },
  ),
)
const places = fc.array(fc.record({ id: fc.string({ unit: 'grapheme' }), text: fc.string() }), {
  minLength: 10,
  maxLength: 10,
})

describe('round trips', () => {
  it.each(vectorFormats)('%s gives every vector, id and text back', async (format) => {
    await fc.assert(
      fc.asyncProperty(vectors, places, fc.integer({ min: 1, max: 4 }), async (values, names, batchSize) => {
        const path = toPath(format)
        const dimensions = values[0]!.length
        const records = values.map((vector, row) => ({ ...names[row]!, index: row * 2, vector }))
        await using writer = await openVectorWriter(path, { dimensions, withIds: true, withTexts: true })
        for (let start = 0; start < records.length; start += batchSize) {
          await writer.write(records.slice(start, start + batchSize))
        }
        await writer.close()

        if (format === 'npy') {
          const { header, values: flat } = await readNpy(path)
          expect(header.trim()).toBe(
            `{'descr': '<f4', 'fortran_order': False, 'shape': (${records.length}, ${dimensions}), }`,
          )
          expect(flat).toEqual(Float32Array.from(values.flatMap((vector) => [...vector])))
          const rows = records.map(({ index, id, text }) => ({ index, id, text }))
          expect(await readJsonlFile(path.replace('.npy', '.ids.jsonl'))).toEqual(rows)
          return
        }
        const rows = format === 'jsonl' ? await readJsonlFile(path) : await readParquetFile(path)
        expect(rows.map(({ index, id, text }) => ({ index: Number(index), id, text }))).toEqual(
          records.map(({ index, id, text }) => ({ index, id, text })),
        )
        expect(rows.map(({ embedding }) => Array.isArray(embedding) && Float32Array.from(embedding))).toEqual(
          values,
        )
      }),
      { numRuns: 40 },
    )
  })

  it.each(vectorFormats)('%s holds an empty corpus', async (format) => {
    const path = toPath(format)
    await using writer = await openVectorWriter(path, { dimensions: 4 })
    await writer.close()
    if (format === 'npy') expect((await readNpy(path)).header).toContain("'shape': (0, 4)")
    else if (format === 'jsonl') expect(await readFile(path, 'utf8')).toBe('')
    else expect(await readParquetFile(path)).toEqual([])
  })

  it('jsonl writes lines of more than one block, with the shortest numbers', async () => {
    const path = toPath('jsonl')
    const text = 'é'.repeat(1_500_000)
    await using writer = await openVectorWriter(path, { dimensions: 2, withTexts: true })
    const vector = Float32Array.of(0.1, -0.25)
    await writer.write([
      { index: 0, text, vector },
      { index: 1, text: 'short', vector },
    ])
    await writer.close()
    expect(await readFile(path, 'utf8')).toBe(
      `{"index":0,"text":"${text}","embedding":[0.1,-0.25]}\n{"index":1,"text":"short","embedding":[0.1,-0.25]}\n`,
    )
  })

  it('parquet keeps the metadata and closes a row group every 2 MiB of vectors', async () => {
    const path = toPath('parquet')
    const records = toRecords(300, 4096)
    await using writer = await openVectorWriter(path, {
      dimensions: 4096,
      metadata: { model: 'all-MiniLM-L6-v2' },
    })
    await writer.write(records)
    await writer.close()
    const metadata = await parquetMetadataAsync(await asyncBufferFromFile(path))
    expect(metadata.row_groups.map((group) => Number(group.num_rows))).toEqual([128, 128, 44])
    expect(metadata.key_value_metadata).toEqual([{ key: 'model', value: 'all-MiniLM-L6-v2' }])
    const rows = await readParquetFile(path)
    expect(Object.keys(rows[0]!)).toEqual(['index', 'embedding'])
    expect(rows[299]!['embedding']).toEqual([...records[299]!.vector])
  })

  it('npy without ids has no ids file, with gaps it has the places', async () => {
    const plain = toPath('npy')
    const gaps = toPath('npy')
    for (const [path, withGaps] of [
      [plain, false],
      [gaps, true],
    ] as const) {
      await using writer = await openVectorWriter(path, { dimensions: 3, withGaps })
      await writer.write(toRecords(1, 3, 5))
      await writer.close()
    }
    expect(existsSync(plain.replace('.npy', '.ids.jsonl'))).toBe(false)
    expect(await readFile(gaps.replace('.npy', '.ids.jsonl'), 'utf8')).toBe('{"index":5}\n')
  })
})

describe('partial files', () => {
  it.each(vectorFormats)(
    '%s has its name only when it is whole, and leaves nothing beside',
    async (format) => {
      const path = toPath(format)
      await writeFile(path, 'the older file')
      await using writer = await openVectorWriter(path, { dimensions: 8, withIds: true })
      await writer.write(toRecords(3, 8))
      await writer.checkpoint()
      expect(await readFile(path, 'utf8')).toBe('the older file')
      expect(existsSync(`${path}.partial`)).toBe(true)
      await writer.close()
      expect(await readFile(path, 'latin1')).not.toBe('the older file')
      const left = (await readdir(folder)).filter((name) => name.startsWith(`${fileCount}.`))
      expect(left.sort()).toEqual(
        format === 'npy' ? [`${fileCount}.ids.jsonl`, `${fileCount}.npy`] : [`${fileCount}.${format}`],
      )
    },
  )

  it.each(vectorFormats)('%s goes on after a checkpoint with the very same bytes', async (format) => {
    const whole = toPath(format)
    const pieces = toPath(format)
    const options = { dimensions: 4096, withIds: true, metadata: { model: 'm' } }
    const records = toRecords(300, 4096)
    {
      await using writer = await openVectorWriter(whole, options)
      await writer.write(records)
      await writer.close()
    }
    let checkpoint: WriterCheckpoint | undefined
    // 130 to 140 and 200 to 260 are written twice: what came after the checkpoint is lost in a crash.
    for (const [start, end, lostEnd] of [
      [0, 1, 1],
      [1, 130, 140],
      [130, 200, 260],
    ] as const) {
      await using writer = await openVectorWriter(pieces, {
        ...options,
        ...(checkpoint ? { checkpoint } : {}),
      })
      await writer.write(records.slice(start, end))
      const reached = await writer.checkpoint()
      expect(reached.records).toBe(end)
      const parsed: WriterCheckpoint = JSON.parse(JSON.stringify(reached))
      checkpoint = parsed
      if (lostEnd > end) await writer.write(records.slice(end, lostEnd))
    }
    await using writer = await openVectorWriter(pieces, { ...options, ...(checkpoint ? { checkpoint } : {}) })
    await writer.write(records.slice(200))
    await writer.close()
    expect((await readFile(pieces)).equals(await readFile(whole))).toBe(true)
    if (format === 'npy') {
      expect((await readFile(toIdsPath(pieces))).equals(await readFile(toIdsPath(whole)))).toBe(true)
    }
    expect(
      (await readdir(folder)).filter((name) => name.includes('tail') || name.includes('partial')),
    ).toEqual([])
  })

  it.each(vectorFormats)(
    '%s refuses a partial file that is shorter than its checkpoint or gone',
    async (format) => {
      const path = toPath(format)
      const writer = await openVectorWriter(path, { dimensions: 4 })
      await writer.write(toRecords(5, 4))
      const checkpoint = await writer.checkpoint()
      await writer[Symbol.asyncDispose]()
      await writeFile(`${path}.partial`, 'x')
      await expect(openVectorWriter(path, { dimensions: 4, checkpoint })).rejects.toMatchObject({
        code: 'CHECKPOINT_MISMATCH',
        message: expect.stringContaining('it has 1 bytes'),
      })
      await rm(`${path}.partial`)
      await expect(openVectorWriter(path, { dimensions: 4, checkpoint })).rejects.toThrow('it is gone')
    },
  )

  it.each(vectorFormats)('%s discards all it wrote', async (format) => {
    const path = toPath(format)
    const writer = await openVectorWriter(path, { dimensions: 4, withIds: true })
    await writer.write(toRecords(5, 4))
    await writer.checkpoint()
    await writer.discard()
    expect((await readdir(folder)).filter((name) => name.startsWith(`${fileCount}.`))).toEqual([])
  })
})

describe('errors', () => {
  it.runIf(existsSync('/dev/full')).each(vectorFormats)('%s says that the disk is full', async (format) => {
    const path = toPath(format)
    await symlink('/dev/full', `${path}.partial`)
    const run = async (): Promise<void> => {
      await using writer = await openVectorWriter(path, { dimensions: 4 })
      await writer.write(toRecords(5, 4))
      await writer.close()
    }
    await expect(run()).rejects.toMatchObject({
      code: 'NO_SPACE',
      message: `no space left for ${path}.partial; free some, then run the same command again to go on`,
    })
    expect(existsSync(path)).toBe(false)
  })

  it('says that the folder is missing or the format unknown', async () => {
    await expect(openVectorWriter(join(folder, 'no', 'a.jsonl'), { dimensions: 4 })).rejects.toMatchObject({
      code: 'FILE_UNWRITABLE',
      message: expect.stringContaining('does not exist; choose another output'),
    })
    await expect(openVectorWriter(join(folder, 'a.bin'), { dimensions: 4 })).rejects.toMatchObject({
      code: 'FILE_FORMAT',
      message: expect.stringContaining("the extension '.bin' names no format of vectors"),
    })
  })
})
