import { describe, expect, it } from 'vitest'
import { makeCorpus } from './corpus.ts'
import {
  type CountTokens,
  createTokenCounter,
  makeFixedLengthWorkload,
  makeMixedWorkload,
  makeTextsWorkload,
} from './workload.ts'

/** Two special tokens, and one for every four letters begun of a word. */
const countTokens: CountTokens = (texts) =>
  Promise.resolve(
    texts.map((text) => 2 + text.split(' ').reduce((sum, word) => sum + Math.ceil(word.length / 4), 0)),
  )

/** One special token, and one a byte. */
const countBytes: CountTokens = (texts) => Promise.resolve(texts.map((text) => 1 + text.length))

describe('workloads', () => {
  it.each([3, 16, 64, 128, 500])('%i tokens exactly, in different texts', async (tokens) => {
    const { name, requests } = await makeFixedLengthWorkload(tokens, { countTokens, texts: 16 })
    expect(name).toBe(`${tokens} tokens`)
    expect(requests.map((request) => request.tokens)).toEqual(Array.from({ length: 16 }, () => tokens))
    expect(await countTokens(requests.map(({ texts }) => texts[0]!))).toEqual(requests.map(() => tokens))
    if (tokens > 16) expect(new Set(requests.map(({ texts }) => texts[0])).size).toBe(16)
  })

  it('hits the length where a token is a byte too', async () => {
    const { requests } = await makeFixedLengthWorkload(500, { countTokens: countBytes, texts: 16 })
    expect(requests.map(({ texts }) => texts[0]!.length)).toEqual(requests.map(() => 499))
  })

  it("is no longer than the model's length, where that is what is asked for", async () => {
    const counter = createTokenCounter({ encode: encodeBytes }, 512)
    expect(await counter(['a'.repeat(600)])).toEqual([512])
    const { requests } = await makeFixedLengthWorkload(512, { countTokens: counter, texts: 4 })
    expect(requests.map(({ texts }) => texts[0]!.length)).toEqual([512, 512, 512, 512])
    await expect(makeFixedLengthWorkload(513, { countTokens: counter })).rejects.toMatchObject({
      code: 'WORKLOAD_INVALID',
    })
  })

  it('a length that no text can have is refused', async () => {
    await expect(makeFixedLengthWorkload(2, { countTokens })).rejects.toMatchObject({
      code: 'WORKLOAD_INVALID',
    })
    await expect(makeTextsWorkload('empty.txt', [], { countTokens })).rejects.toMatchObject({
      code: 'WORKLOAD_INVALID',
    })
  })

  it('lists hold consecutive texts and count all their tokens', async () => {
    const { name, requests } = await makeTextsWorkload('own', ['aaaa', 'bbbb cccc', 'd'], {
      countTokens,
      textsPerRequest: 2,
    })
    expect(name).toBe('own x 2')
    expect(requests).toEqual([
      { texts: ['aaaa', 'bbbb cccc'], tokens: 7 },
      { texts: ['bbbb cccc', 'd'], tokens: 7 },
      { texts: ['d', 'aaaa'], tokens: 6 },
    ])
  })

  it('the mix has short and long texts, the same ones each time', async () => {
    const { requests } = await makeMixedWorkload({ countTokens })
    const lengths = requests.map(({ tokens }) => tokens).sort((a, b) => a - b)
    expect(lengths[0]).toBeLessThan(20)
    expect(lengths.at(-1)).toBeGreaterThan(200)
    expect(makeCorpus(50, 1)).toEqual(makeCorpus(50, 1))
    expect(makeCorpus(50, 1)).not.toEqual(makeCorpus(50, 2))
    expect(new Set(makeCorpus(256, 1)).size).toBeGreaterThan(250)
  })
})

/** A token a byte, cut at the end. */
async function encodeBytes(texts: readonly string[], { maxTokens }: { readonly maxTokens: number }) {
  return texts.map((text) => {
    const ids = Int32Array.from(Buffer.from(text))
    return { ids: ids.subarray(0, maxTokens), totalTokens: ids.length }
  })
}
