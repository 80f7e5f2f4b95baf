import { existsSync, readFileSync } from 'node:fs'
import { appendFile, mkdtemp, readFile, readdir, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import * as fc from 'fast-check'
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  dimensions,
  embed,
  readJsonlFile,
  stopAtCall,
  toTexts,
  toVector,
} from '../../test/fakes/text-embedder.ts'
import { EmbedError } from '../errors.ts'
import { embedCorpus } from './embed-corpus.ts'
import type { EmbedCorpusOptions, EmbedCorpusResult } from './embed-corpus.ts'
import type { BulkProgress } from './progress.ts'
import { vectorFormats } from './vectors.ts'

let root: string
let folder: string
let folderCount = 0

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'embed-corpus-'))
})
beforeEach(async () => {
  folderCount += 1
  folder = await mkdtemp(join(root, `${folderCount}-`))
})
afterAll(() => rm(root, { recursive: true }))

async function toCorpus(texts: readonly string[], name = 'corpus.txt'): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, texts.map((text) => `${text}\n`).join(''))
  return path
}

async function run(
  options: Partial<EmbedCorpusOptions> & Pick<EmbedCorpusOptions, 'input' | 'output'>,
): Promise<EmbedCorpusResult> {
  return embedCorpus({ embed, dimensions, modelHash: 'abc', resume: true, batchSize: 4, ...options })
}

function toStdin(texts: readonly string[]): Readable {
  return Readable.from([Buffer.from(`${texts.join('\n')}\n`)])
}

function giving(vectors: Float32Array[]): EmbedCorpusOptions['embed'] {
  return () => Promise.resolve({ vectors, tokens: 1, truncated: 0 })
}

describe('a whole run', () => {
  it('keeps the order, counts, and leaves only the output', async () => {
    const texts = toTexts(23)
    const input = await toCorpus(texts)
    const output = join(folder, 'out.jsonl')
    let inFlight = 0
    let mostInFlight = 0
    const result = await run({
      input,
      output,
      concurrency: 3,
      embed: async (batch) => {
        inFlight += 1
        mostInFlight = Math.max(mostInFlight, inFlight)
        expect(batch.length).toBeLessThanOrEqual(4)
        const embedded = await embed(batch)
        inFlight -= 1
        return embedded
      },
    })
    const rows = await readJsonlFile(output)
    expect(rows.map(({ index }) => index)).toEqual(texts.map((_, index) => index))
    expect(rows.map(({ embedding }) => Float32Array.from(embedding))).toEqual(
      texts.map((text) => toVector(text)),
    )
    expect(mostInFlight).toBe(3)
    expect(result).toMatchObject({
      records: 23,
      tokens: 69,
      truncated: 6,
      skipped: 0,
      resumedRecords: 0,
      doneRatio: 1,
    })
    expect((await readdir(folder)).sort()).toEqual(['corpus.txt', 'out.jsonl'])
  })

  it('leaves out records without text and keeps their places and ids', async () => {
    const input = await toCorpus(
      ['{"k":"a","t":"one"}', '{"k":"b","t":""}', '{"k":"c","t":"three"}', ''],
      'in.jsonl',
    )
    const output = join(folder, 'out.npy')
    const result = await run({ input, output, textColumn: 't', idColumn: 'k', onEmpty: 'skip' })
    expect(result).toMatchObject({ records: 2, skipped: 2 })
    expect(await readFile(join(folder, 'out.ids.jsonl'), 'utf8')).toBe(
      '{"index":0,"id":"a"}\n{"index":2,"id":"c"}\n',
    )
  })

  it('reads stdin, puts texts beside the vectors, and takes an empty corpus', async () => {
    const output = join(folder, 'out.parquet')
    await run({ input: '-', stdin: Readable.from([Buffer.from('one\ntwo\n')]), output, withTexts: true })
    const rows = await parquetReadObjects({ file: await asyncBufferFromFile(output) })
    expect(rows).toEqual([
      { index: 0n, text: 'one', embedding: [...toVector('one')] },
      { index: 1n, text: 'two', embedding: [...toVector('two')] },
    ])
    const empty = await run({ input: await toCorpus([]), output: join(folder, 'empty.jsonl') })
    expect(empty).toMatchObject({ records: 0, doneRatio: 1 })
    expect(readFileSync(join(folder, 'empty.jsonl'), 'utf8')).toBe('')
  })

  it('tells its progress on the clock', async () => {
    const input = await toCorpus(toTexts(40))
    const seen: BulkProgress[] = []
    let clockMs = 0
    await run({
      input,
      output: join(folder, 'out.jsonl'),
      concurrency: 1,
      progressIntervalMs: 300,
      nowMs: () => clockMs,
      embed: async (texts) => {
        clockMs += 100
        return embed(texts)
      },
      onProgress: (progress) => seen.push(progress),
    })
    expect(seen.map(({ records }) => records)).toEqual([4, 16, 28, 40, 40])
    expect(seen[1]).toMatchObject({ elapsedMs: 400, recordsPerSecond: 40, tokensPerSecond: 120 })
    expect(seen[1]!.remainingMs).toBeGreaterThan(500)
    expect(seen[1]!.remainingMs).toBeLessThan(700)
    expect(seen.at(-1)).toMatchObject({ doneRatio: 1, remainingMs: 0 })
  })
})

describe('going on', () => {
  it.each(vectorFormats)('%s: stopped anywhere and gone on with gives the same bytes', async (format) => {
    const texts = toTexts(30)
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 3 }),
        async (stops, batchSize, concurrency) => {
          folderCount += 1
          folder = await mkdtemp(join(root, `${folderCount}-`))
          const input = await toCorpus(texts)
          const whole = join(folder, `whole.${format}`)
          const output = join(folder, `out.${format}`)
          await run({ input, output: whole })
          for (const stop of stops) {
            const done = await run({ input, output, batchSize, concurrency, ...stopAtCall(stop) }).catch(
              (error: unknown) => {
                expect(error).toMatchObject({ code: 'EMBEDDING_INTERRUPTED' })
                expect(existsSync(output)).toBe(false)
              },
            )
            if (done) await unlink(output)
          }
          const result = await run({ input, output, batchSize, concurrency })
          expect(result).toMatchObject({ records: 30, tokens: 90 })
          expect((await readFile(output)).equals(await readFile(whole))).toBe(true)
          expect((await readdir(folder)).sort()).toEqual(['corpus.txt', `out.${format}`, `whole.${format}`])
        },
      ),
      { numRuns: 12 },
    )
  })

  it('writes all that was finished before the stop and says where it goes on', async () => {
    const input = await toCorpus(toTexts(40))
    const output = join(folder, 'out.jsonl')
    await expect(run({ input, output, concurrency: 2, ...stopAtCall(6) })).rejects.toMatchObject({
      code: 'EMBEDDING_INTERRUPTED',
      message: `stopped after 20 records of ${output}; run the same command again to go on from there`,
    })
    expect((await readJsonlFile(`${output}.partial`)).map(({ index }) => index)).toHaveLength(20)
    const asked: string[] = []
    const result = await run({
      input,
      output,
      embed: async (texts) => {
        asked.push(...texts)
        return embed(texts)
      },
    })
    expect(asked).toEqual(toTexts(40).slice(20))
    expect(result).toMatchObject({ records: 40, resumedRecords: 20 })
  })

  it('goes on from the last checkpoint after a crash', async () => {
    const texts = toTexts(40)
    const input = await toCorpus(texts)
    const output = join(folder, 'out.jsonl')
    const crashed = join(folder, 'crashed.jsonl')
    let clockMs = 0
    let copied = false
    await run({
      input,
      output,
      concurrency: 1,
      checkpointIntervalMs: 300,
      nowMs: () => clockMs,
      embed: async (batch) => {
        clockMs += 100
        // The state of the disk in the middle of a run, with bytes behind the checkpoint and half a line.
        if (batch[0] === texts[20]) {
          copied = true
          await writeFile(`${crashed}.partial`, await readFile(`${output}.partial`))
          await appendFile(`${crashed}.partial`, '{"index":20,"embed')
          await writeFile(`${crashed}.progress.json`, await readFile(`${output}.progress.json`))
        }
        return embed(batch)
      },
    })
    expect(copied).toBe(true)
    const result = await run({ input, output: crashed })
    expect(result).toMatchObject({ records: 40, resumedRecords: 12 })
    expect(await readFile(crashed, 'utf8')).toBe(await readFile(output, 'utf8'))
  })

  it('counts records left out once', async () => {
    const texts = toTexts(20).flatMap((text, index) => (index % 3 === 0 ? [text, ''] : [text]))
    const input = await toCorpus(texts)
    const output = join(folder, 'out.jsonl')
    await expect(run({ input, output, onEmpty: 'skip', ...stopAtCall(3) })).rejects.toMatchObject({
      code: 'EMBEDDING_INTERRUPTED',
    })
    expect(await run({ input, output, onEmpty: 'skip' })).toMatchObject({ records: 20, skipped: 7 })
  })

  it('goes on with stdin when it gives the same texts again', async () => {
    const output = join(folder, 'out.jsonl')
    const texts = toTexts(30)
    await expect(run({ input: '-', stdin: toStdin(texts), output, ...stopAtCall(4) })).rejects.toMatchObject({
      code: 'EMBEDDING_INTERRUPTED',
    })
    await expect(
      run({ input: '-', stdin: toStdin(['other', ...texts.slice(1)]), output }),
    ).rejects.toMatchObject({ code: 'CHECKPOINT_MISMATCH' })
    await expect(run({ input: '-', stdin: toStdin(texts.slice(0, 5)), output })).rejects.toMatchObject({
      code: 'CHECKPOINT_MISMATCH',
    })
    const result = await run({ input: '-', stdin: toStdin(texts), output })
    expect(result).toMatchObject({ records: 30, resumedRecords: 12 })
    expect((await readJsonlFile(output)).map(({ index }) => index)).toEqual(texts.map((_, index) => index))
  })

  it('refuses what differs, and starts over when told to', async () => {
    const input = await toCorpus(toTexts(30))
    const output = join(folder, 'out.jsonl')
    const stopped = { ...stopAtCall(4), identity: { prompt: 'query' } }
    await expect(run({ input, output, ...stopped })).rejects.toMatchObject({ code: 'EMBEDDING_INTERRUPTED' })
    const mismatch = run({
      input,
      output,
      modelHash: 'other',
      identity: { prompt: 'document' },
      onEmpty: 'skip',
    })
    await expect(mismatch).rejects.toMatchObject({
      code: 'CHECKPOINT_MISMATCH',
      details: {
        differences: [
          'empty records was error, now it is skip',
          'model was abc, now it is other',
          'prompt was query, now it is document',
        ],
      },
      message: expect.stringContaining('--no-resume'),
    })
    expect(await run({ input, output, resume: false })).toMatchObject({ records: 30, resumedRecords: 0 })
    expect((await readdir(folder)).sort()).toEqual(['corpus.txt', 'out.jsonl'])
  })

  it('goes on with a changed input only when what was embedded is the same', async () => {
    const texts = toTexts(30)
    const input = await toCorpus(texts)
    const output = join(folder, 'out.jsonl')
    await expect(run({ input, output, ...stopAtCall(4) })).rejects.toMatchObject({
      code: 'EMBEDDING_INTERRUPTED',
    })
    await toCorpus([...texts.slice(0, 11), 'other', ...texts.slice(12)])
    await expect(run({ input, output })).rejects.toMatchObject({
      code: 'CHECKPOINT_MISMATCH',
      details: { path: input, differences: ['its texts up to record 12 are not those that were embedded'] },
    })
    const repaired = [...texts.slice(0, 12), 'repaired', ...texts.slice(13), 'one more']
    await toCorpus(repaired)
    expect(await run({ input, output })).toMatchObject({ records: 31, resumedRecords: 12 })
    const rows = await readJsonlFile(output)
    expect(rows.map(({ embedding }) => Float32Array.from(embedding))).toEqual(
      repaired.map((text) => toVector(text)),
    )
  })

  it('refuses a progress file that is none', async () => {
    const input = await toCorpus(toTexts(3))
    const output = join(folder, 'out.jsonl')
    for (const content of ['{', '[]', '{"version":1}', '{"version":9,"identity":{}}']) {
      await writeFile(`${output}.progress.json`, content)
      await expect(run({ input, output })).rejects.toMatchObject({ code: 'FILE_FORMAT' })
    }
  })
})

describe('failures', () => {
  it('names the line of a text that fails, keeps what was before, and goes on after the repair', async () => {
    const texts = toTexts(30)
    const input = await toCorpus(texts)
    const output = join(folder, 'out.jsonl')
    const failing: EmbedCorpusOptions['embed'] = async (batch) => {
      const index = batch.indexOf(texts[17]!)
      if (index >= 0) throw new EmbedError('INPUT_TOO_LONG', { index, tokens: 900, maxTokens: 512 })
      return embed(batch)
    }
    await expect(run({ input, output, concurrency: 3, embed: failing })).rejects.toMatchObject({
      code: 'RECORD_FAILED',
      message: `${input}: line 18: the text has 900 tokens, the model takes 512; shorten it, or ask for truncation`,
    })
    expect(await readJsonlFile(`${output}.partial`)).toHaveLength(16)
    expect(await run({ input, output })).toMatchObject({ records: 30, resumedRecords: 16 })
  })

  it('names the lines of the batch when no text is to blame', async () => {
    const input = await toCorpus(toTexts(30))
    await expect(
      run({
        input,
        output: join(folder, 'out.jsonl'),
        embed: async (batch) => {
          if (batch[0] !== 'text 8 é') return embed(batch)
          throw new EmbedError('ENGINE_FAILED', { engine: 'onnx', reason: 'out of memory' })
        },
      }),
    ).rejects.toThrow(`${input}: line 9 to line 12: the onnx engine failed: out of memory`)
  })

  it('writes the texts before a bad line, and nothing when there are none', async () => {
    const lines = toTexts(10).map((text) => JSON.stringify(text))
    const output = join(folder, 'out.jsonl')
    const input = await toCorpus([...lines, 'oops'], 'in.jsonl')
    await expect(run({ input, output })).rejects.toThrow('line 11: not JSON')
    expect(await readJsonlFile(`${output}.partial`)).toHaveLength(8)
    const bad = await toCorpus(['oops'], 'bad.jsonl')
    await expect(run({ input: bad, output: join(folder, 'none.jsonl') })).rejects.toThrow('line 1: not JSON')
    expect((await readdir(folder)).filter((name) => name.startsWith('none'))).toEqual([])
  })

  it('waits for the calls in flight and tells them to stop', async () => {
    const input = await toCorpus(toTexts(30))
    let running = 0
    let told = 0
    const failing: EmbedCorpusOptions['embed'] = async (batch, signal) => {
      if (batch[0] === 'text 0 é') throw new EmbedError('ENGINE_FAILED', { engine: 'onnx', reason: 'gone' })
      running += 1
      signal.addEventListener('abort', () => {
        told += 1
      })
      const embedded = await embed(batch)
      running -= 1
      return embedded
    }
    await expect(
      run({ input, output: join(folder, 'out.jsonl'), concurrency: 3, embed: failing }),
    ).rejects.toThrow('gone')
    expect({ running, told }).toEqual({ running: 0, told: 2 })
  })

  it.runIf(existsSync('/dev/full'))(
    'leaves no checkpoint that claims what the disk did not take',
    async () => {
      const input = await toCorpus(toTexts(30))
      const output = join(folder, 'out.jsonl')
      await symlink('/dev/full', `${output}.partial`)
      await expect(run({ input, output })).rejects.toMatchObject({ code: 'NO_SPACE' })
      expect((await readdir(folder)).sort()).toEqual(['corpus.txt', 'out.jsonl.partial'])
    },
  )

  it('refuses vectors of another number or length, and an output that is the input', async () => {
    const input = await toCorpus(toTexts(3))
    const output = join(folder, 'out.jsonl')
    await expect(run({ input, output, embed: giving([]) })).rejects.toThrow(
      'gave 0 vectors, wanted 3 vectors of 6',
    )
    const short = [toVector('a'), toVector('b', 5), toVector('c')]
    await expect(run({ input, output, embed: giving(short) })).rejects.toThrow('gave a vector of 5 values')
    await expect(run({ input, output: input, outputFormat: 'jsonl' })).rejects.toMatchObject({
      code: 'USAGE',
    })
    expect(readFileSync(input, 'utf8')).toContain('text 2')
  })
})
