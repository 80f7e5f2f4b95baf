/** Ids equal to those of Python's `tokenizers` on the real MiniLM vocabulary: emoji, scripts, control characters, lone
 * surrogates, 1 MB texts, cuts from both ends. The fixture comes from test/fixtures/make-tokenizer-golden.py. */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Tokenizer, Truncation } from '../../src/serving/tokenizer/tokenizer.ts'
import { createTokenizer } from '../../src/serving/tokenizer/worker-tokenizer.ts'
import { realModelFolder } from '../fixtures/real-model.ts'

interface GoldenCase {
  readonly text: string
  /** The text is this many times `text`. */
  readonly times?: number
  readonly ids?: readonly number[]
  /** Instead of ids, where they are many. */
  readonly tokens?: number
  readonly sha256?: string
  readonly plainIds?: readonly number[]
  readonly decoded?: string
  readonly decodedPlain?: string
  readonly cuts?: readonly { maxTokens: number; truncation: Truncation; ids: readonly number[] }[]
}

const modelFolder = process.env['AKIDB_TEST_MODEL'] ?? realModelFolder
const tokenizerPath = join(modelFolder, 'tokenizer.json')
const fixture = new URL('../fixtures/tokenizer/minilm-l6-v2.json', import.meta.url)
const { cases }: { cases: readonly GoldenCase[] } = JSON.parse(readFileSync(fixture, 'utf8'))
const whole = { maxTokens: 2_000_000, truncation: 'none' } as const

describe.skipIf(!existsSync(tokenizerPath))(`all-MiniLM-L6-v2's tokenizer, needs ${tokenizerPath}`, () => {
  let tokenizer: Tokenizer
  beforeAll(async () => {
    tokenizer = await createTokenizer({ tokenizerPath, workerCount: 0 })
  })
  afterAll(() => tokenizer[Symbol.asyncDispose]())

  it(`gives the reference's ids for all ${cases.length} texts in one list`, async () => {
    const inputs = await tokenizer.encode(cases.map(toText), whole)
    for (const [index, golden] of cases.entries()) {
      const { ids, totalTokens } = inputs[index]!
      expect(totalTokens).toBe(ids.length)
      const { text, times } = golden
      if (golden.ids) expect({ text, times, ids: [...ids] }).toEqual({ text, times, ids: golden.ids })
      else {
        const { tokens, sha256 } = golden
        expect({ text, times, tokens: ids.length, sha256: digest(ids) }).toEqual({
          text,
          times,
          tokens,
          sha256,
        })
      }
    }
  })

  it('gives its ids without special tokens', async () => {
    const plain = cases.filter((golden) => golden.plainIds)
    const inputs = await tokenizer.encode(plain.map(toText), { ...whole, addSpecialTokens: false })
    expect(plain.length).toBeGreaterThan(50)
    expect(inputs.map((input) => Array.from(input.ids))).toEqual(plain.map((golden) => golden.plainIds))
  })

  it('cuts as it does, from both ends, and tells the whole length', async () => {
    let cutCount = 0
    for (const golden of cases) {
      for (const { maxTokens, truncation, ids } of golden.cuts ?? []) {
        const [input] = await tokenizer.encode([toText(golden)], { maxTokens, truncation })
        const { text, times } = golden
        const totalTokens = golden.tokens ?? golden.ids!.length
        expect({ text, times, truncation, ids: [...input!.ids], totalTokens: input!.totalTokens }).toEqual({
          text,
          times,
          truncation,
          ids,
          totalTokens,
        })
        cutCount++
      }
    }
    expect(cutCount).toBeGreaterThan(200)
  })

  it('decodes as it does', async () => {
    const decoded = cases.filter((golden) => golden.decoded !== undefined)
    expect(decoded.length).toBeGreaterThan(50)
    for (const golden of decoded) {
      const ids = Int32Array.from(golden.ids!)
      expect(await tokenizer.decode(ids)).toBe(golden.decoded)
      expect(await tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(golden.decodedPlain)
    }
  })
})

function toText({ text, times = 1 }: GoldenCase): string {
  return text.repeat(times)
}

function digest(ids: Int32Array): string {
  const bytes = new DataView(new ArrayBuffer(4 * ids.length))
  for (const [index, id] of ids.entries()) bytes.setInt32(4 * index, id, true)
  return createHash('sha256').update(bytes).digest('hex')
}
