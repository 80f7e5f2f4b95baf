// Texts of an exact number of tokens, cut from the licence in this repository: real English, the same for every peer.
import { readFileSync } from 'node:fs'

const words = readFileSync(new URL('../../LICENSE', import.meta.url), 'utf8')
  .split(/\s+/)
  .filter((word) => /^[A-Za-z,.;()"-]+$/.test(word))

/** @param {{ encode(texts: readonly string[], options: object): Promise<{ totalTokens: number }[]> }} tokenizer
 * @param {number} tokens special tokens included
 * @param {number} count
 * @returns {Promise<string[]>} `count` different texts */
export async function makeTexts(tokenizer, tokens, count) {
  const texts = []
  for (let start = 0; texts.length < count; start = (start + 37) % words.length) {
    // One token a word at least; then words are taken off until it fits, and 'the' (one token) fills what is missing.
    let length = tokens
    for (;;) {
      const text = Array.from({ length }, (_, i) => words[(start + i) % words.length]).join(' ')
      const total = await countTokens(tokenizer, text)
      if (total <= tokens) {
        const filled = text + ' the'.repeat(tokens - total)
        if ((await countTokens(tokenizer, filled)) === tokens) texts.push(filled)
        break
      }
      length -= Math.max(1, Math.floor((total - tokens) / 3))
    }
  }
  return texts
}

async function countTokens(tokenizer, text) {
  const [encoded] = await tokenizer.encode([text], { maxTokens: 1 << 20, truncation: 'right' })
  return encoded.totalTokens
}

/** Lengths as real traffic has them: lognormal, the same on every machine. */
export function realLengths(
  count,
  { median = 64, sigma = 0.8, least = 8, most = 256, seed = 20260724 } = {},
) {
  let state = seed
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  return Array.from({ length: count }, () => {
    const normal = Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random())
    return Math.min(most, Math.max(least, Math.round(median * Math.exp(sigma * normal))))
  })
}
