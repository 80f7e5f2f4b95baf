/** What bulk runs are tested with: an embedder without a model, and ways to stop it. */

import { readFile } from 'node:fs/promises'
import { EmbedError } from '../../src/errors.ts'
import type { EmbedCorpusOptions, EmbeddedTexts } from '../../src/bulk/embed-corpus.ts'

export const dimensions = 6

/** A vector that only this text has. */
export function toVector(text: string, length = dimensions): Float32Array {
  let state = text.length
  for (let place = 0; place < text.length; place += 1) state = (state * 31 + text.charCodeAt(place)) | 0
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    return state / 2 ** 33
  })
}

/** An engine whose calls finish in any order. */
export async function embed(texts: readonly string[], _signal?: AbortSignal): Promise<EmbeddedTexts> {
  const delayMs = Math.abs(toVector(texts[0]!)[0]! * 12)
  await new Promise((resolve) => {
    setTimeout(resolve, delayMs)
  })
  return { vectors: texts.map((text) => toVector(text)), tokens: texts.length * 3, truncated: 1 }
}

export function toTexts(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `text ${index} é`)
}

/** Stops the run when embed() is called for the n-th time; the calls before it still finish. */
export function stopAtCall(n: number): Pick<EmbedCorpusOptions, 'embed' | 'signal'> {
  const controller = new AbortController()
  let calls = 0
  return {
    signal: controller.signal,
    embed: async (texts, signal) => {
      calls += 1
      if (calls < n) return embed(texts)
      controller.abort()
      if (!signal.aborted) throw new Error('the signal of the run did not reach embed()')
      throw new EmbedError('REQUEST_CANCELLED', {})
    },
  }
}

export async function readJsonlFile(path: string): Promise<{ index: number; embedding: number[] }[]> {
  return (await readFile(path, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line): { index: number; embedding: number[] } => JSON.parse(line))
}
