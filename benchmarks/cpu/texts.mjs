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
