import { join } from 'node:path'
import { array, assert, asyncProperty, constantFrom, tuple } from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tinyTokenizer, writeTokenizerFile } from '../../../test/fakes/tiny-tokenizer.ts'
import type { TokenizedInput, Tokenizer } from './tokenizer.ts'
import { createTokenizer } from './worker-tokenizer.ts'

const whole = { maxTokens: 1_000_000, truncation: 'right' } as const
const idsOf = (inputs: TokenizedInput[]): number[][] => inputs.map((input) => [...input.ids])

let file: Awaited<ReturnType<typeof writeTokenizerFile>>
let tokenizer: Tokenizer
beforeAll(async () => {
  file = await writeTokenizerFile()
  tokenizer = await createTokenizer({ tokenizerPath: file.tokenizerPath, workerCount: 0 })
})
afterAll(async () => {
  await tokenizer[Symbol.asyncDispose]()
  await file[Symbol.asyncDispose]()
})

describe('encode', () => {
  it('gives the ids of WordPiece between the special tokens, in order, empty texts too', async () => {
    const texts = ['Hello, world!', 'unbelievables', '', '  \t\n', 'CAFÉ 中a', '[SEP] x']
    expect(idsOf(await tokenizer.encode(texts, whole))).toEqual([
      [2, 4, 1, 5, 9, 3],
      [2, 6, 7, 8, 17, 3],
      [2, 3],
      [2, 3],
      [2, 19, 18, 10, 3],
      [2, 3, 1, 3],
    ])
    expect(await tokenizer.encode([], whole)).toEqual([])
  })

  it("never applies the file's own truncation and padding", async () => {
    const [input] = await tokenizer.encode(['a b c d e f g'], whole)
    expect([...input!.ids]).toEqual([2, 10, 11, 12, 13, 14, 15, 16, 3])
    expect(input!.totalTokens).toBe(9)
  })

  it('leaves the special tokens out when asked', async () => {
    const options = { ...whole, addSpecialTokens: false }
    expect(idsOf(await tokenizer.encode(['hello world', ''], options))).toEqual([[4, 5], []])
    const cut = await tokenizer.encode(['a b c d'], { ...options, maxTokens: 3, truncation: 'left' })
    expect(cut).toEqual([{ ids: Int32Array.of(11, 12, 13), totalTokens: 4 }])
  })

  it('cuts the end or the beginning inside the special tokens and tells the total', async () => {
    const texts = ['a b c d e', 'a b']
    const right = await tokenizer.encode(texts, { maxTokens: 5, truncation: 'right' })
    expect(idsOf(right)).toEqual([
      [2, 10, 11, 12, 3],
      [2, 10, 11, 3],
    ])
    expect(right.map((input) => input.totalTokens)).toEqual([7, 4])
    const left = await tokenizer.encode(texts, { maxTokens: 5, truncation: 'left' })
    expect(idsOf(left)[0]).toEqual([2, 12, 13, 14, 3])
    expect(left[0]!.totalTokens).toBe(7)
    expect(idsOf(await tokenizer.encode(['a b c'], { maxTokens: 2, truncation: 'left' }))).toEqual([[2, 3]])
  })

  it("refuses the first text that is too long with 'none', takes one of just the length", async () => {
    const options = { maxTokens: 4, truncation: 'none' } as const
    expect(idsOf(await tokenizer.encode(['a b'], options))).toEqual([[2, 10, 11, 3]])
    await expect(tokenizer.encode(['a b', 'a b c', 'a b c d'], options)).rejects.toMatchObject({
      code: 'INPUT_TOO_LONG',
      details: { index: 1, tokens: 5, maxTokens: 4 },
    })
  })

  it('refuses a maxTokens that the special tokens alone exceed', async () => {
    for (const maxTokens of [1, NaN]) {
      await expect(tokenizer.encode(['a'], { maxTokens, truncation: 'right' })).rejects.toMatchObject({
        code: 'TOKENIZER_FAILED',
        message: `the tokenizer failed: maxTokens is ${maxTokens}, the special tokens alone are 2`,
      })
    }
  })

  it('counts every token of a text far longer than the limit', async () => {
    const [input] = await tokenizer.encode(['a b hello '.repeat(100_000)], {
      maxTokens: 5,
      truncation: 'left',
    })
    expect(input).toEqual({ ids: Int32Array.of(2, 10, 11, 4, 3), totalTokens: 300_002 })
  })

  it('refuses a text over maxTextChars', async () => {
    await using small = await createTokenizer({
      tokenizerPath: file.tokenizerPath,
      workerCount: 0,
      maxTextChars: 5,
    })
    expect(idsOf(await small.encode(['hello'], whole))).toEqual([[2, 4, 3]])
    await expect(small.encode(['a', 'hello!'], whole)).rejects.toMatchObject({
      code: 'TEXT_TOO_LARGE',
      details: { index: 1, chars: 6, maxTextChars: 5 },
    })
  })

  it('takes a lone surrogate as U+FFFD', async () => {
    const vocab = { ...tinyTokenizer.model.vocab, '\ufffd': 20 }
    await using other = await writeTokenizerFile({
      ...tinyTokenizer,
      normalizer: null, // BERT's would drop U+FFFD
      model: { ...tinyTokenizer.model, vocab },
    })
    await using exact = await createTokenizer({ tokenizerPath: other.tokenizerPath, workerCount: 0 })
    const texts = ['a \ufffd b', 'a \ud800 b', 'a \udc00', '\ud83d', '\ud83d\ude00']
    expect(idsOf(await exact.encode(texts, whole))).toEqual([
      [2, 10, 20, 11, 3],
      [2, 10, 20, 11, 3],
      [2, 10, 20, 3],
      [2, 20, 3],
      [2, 1, 3],
    ])
  })

  it('gives a list what each text gets alone, in order, whatever the library calls it takes', async () => {
    const word = constantFrom('a', 'b', 'hello', 'unbelievable', '中', '!', 'zzz')
    const text = tuple(array(word, { maxLength: 6 }), constantFrom(1, 1, 1, 3_000)).map(([words, times]) =>
      (words.join(' ') + ' ').repeat(times),
    )
    await assert(
      asyncProperty(array(text, { maxLength: 8 }), async (texts) => {
        const options = { maxTokens: 8, truncation: 'left' } as const
        const alone = await Promise.all(texts.map((one) => tokenizer.encode([one], options)))
        expect(await tokenizer.encode(texts, options)).toEqual(alone.flat())
      }),
      { numRuns: 20, seed: 7 },
    )
  })

  it('takes a post-processor that adds nothing, or only an end', async () => {
    await using bare = await writeTokenizerFile({ ...tinyTokenizer, post_processor: null })
    await using ending = await writeTokenizerFile({
      ...tinyTokenizer,
      post_processor: {
        ...tinyTokenizer.post_processor,
        single: tinyTokenizer.post_processor.single.slice(1),
      },
    })
    const options = { maxTokens: 2, truncation: 'left' } as const
    await using first = await createTokenizer({ tokenizerPath: bare.tokenizerPath, workerCount: 0 })
    expect(await first.encode(['a b c'], options)).toEqual([{ ids: Int32Array.of(11, 12), totalTokens: 3 }])
    await using second = await createTokenizer({ tokenizerPath: ending.tokenizerPath, workerCount: 0 })
    expect(await second.encode(['a b c'], options)).toEqual([{ ids: Int32Array.of(12, 3), totalTokens: 4 }])
  })
})

describe('decode', () => {
  it('gives the text, with or without special tokens', async () => {
    const ids = Int32Array.of(2, 6, 7, 8, 5, 9, 3)
    expect(await tokenizer.decode(ids, { skipSpecialTokens: true })).toBe('unbelievable world!')
    expect(await tokenizer.decode(ids)).toBe('[CLS] unbelievable world! [SEP]')
    expect(await tokenizer.decode(new Int32Array(0))).toBe('')
  })
})

describe('inspect', () => {
  it('tells each token with its bytes in the text, special ones without', async () => {
    expect(await tokenizer.inspect('CAFÉ 中 hello')).toEqual([
      { id: 2, text: '[CLS]', special: true, byteRange: undefined },
      { id: 19, text: 'CAFÉ', special: false, byteRange: [0, 5] },
      { id: 18, text: '中', special: false, byteRange: [6, 9] },
      { id: 4, text: 'hello', special: false, byteRange: [10, 15] },
      { id: 3, text: '[SEP]', special: true, byteRange: undefined },
    ])
  })

  it('leaves the added tokens out when asked, and counts an emoji as one character of four bytes', async () => {
    expect(await tokenizer.inspect('🙂 a', { addSpecialTokens: false })).toEqual([
      { id: 1, text: '🙂', special: false, byteRange: [0, 4] },
      { id: 10, text: 'a', special: false, byteRange: [5, 6] },
    ])
  })
})

describe('createTokenizer', () => {
  it('tells what is wrong with the file', async () => {
    await using broken = await writeTokenizerFile('{ "model": ')
    await using unknown = await writeTokenizerFile({ ...tinyTokenizer, model: { type: 'Riddle' } })
    for (const { tokenizerPath } of [broken, unknown]) {
      const attempt = createTokenizer({ tokenizerPath, workerCount: 0 })
      await expect(attempt).rejects.toMatchObject({
        code: 'MODEL_FILE_CORRUPT',
        details: { file: tokenizerPath },
      })
    }
    const missing = createTokenizer({
      tokenizerPath: join(broken.tokenizerPath, '..', 'no.json'),
      workerCount: 0,
    })
    await expect(missing).rejects.toMatchObject({ code: 'FILE_UNREADABLE' })
  })

  it('takes no work after its disposal', async () => {
    const gone = await createTokenizer({ tokenizerPath: file.tokenizerPath, workerCount: 0 })
    await gone[Symbol.asyncDispose]()
    await gone[Symbol.asyncDispose]()
    await expect(gone.encode(['a'], whole)).rejects.toMatchObject({ code: 'TOKENIZER_FAILED' })
    await expect(gone.inspect('a')).rejects.toMatchObject({ code: 'TOKENIZER_FAILED' })
    await expect(gone.decode(Int32Array.of(4))).rejects.toMatchObject({ code: 'TOKENIZER_FAILED' })
  })
})
