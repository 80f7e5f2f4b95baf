// What native.mjs can measure beside batches of one length: queries behind an instruction, and texts of real lengths.
import { cosine } from '../../dist/engines/vectors.js'
import { realLengths } from '../cpu/texts.mjs'

/** @param {number[][]} sequences token ids */
export function pack(sequences) {
  const cumulativeLengths = new Int32Array(sequences.length + 1)
  for (const [i, ids] of sequences.entries()) cumulativeLengths[i + 1] = cumulativeLengths[i] + ids.length
  return { inputIds: Int32Array.from(sequences.flat()), cumulativeLengths }
}

/** 64 queries of 12 tokens behind an instruction of 24, with it computed once and with each.
 * @param open given options, opens the engine */
export async function measureQueries(open, { vocabulary, rounds }) {
  const idOf = (at) => (at * 7919 + 5) % vocabulary
  const queries = Array.from({ length: 64 }, (_, i) => [
    ...Array.from({ length: 24 }, (_each, at) => idOf(at)),
    ...Array.from({ length: 12 }, (_each, at) => idOf(i * 997 + at * 31 + 100)),
  ])
  // The same rows as with the prefix in each, and as with it once.
  const warmUpShapes = [36, 14].map((tokens) => ({ sequences: 64, tokens }))
  const results = []
  for (const sharePrefix of [false, true]) {
    const engine = await open({ warmUpShapes, sharePrefix })
    const times = await timeRounds(Math.max(20, rounds), () => engine.embed(pack(queries)))
    const { values, dimensions } = await engine.embed(pack(queries))
    results.push({ values, dimensions, ms: times.toSorted((a, b) => a - b)[times.length >> 1] })
    await engine[Symbol.asyncDispose]()
  }
  const [apart, shared] = results
  const { dimensions } = apart
  const rowOf = ({ values }, row) => values.subarray(row * dimensions, (row + 1) * dimensions)
  const worstCosine = Math.min(...queries.map((_, i) => cosine(rowOf(apart, i), rowOf(shared, i))))
  console.log(
    `64 queries of 24 + 12 tokens: ${apart.ms.toFixed(2)} ms, with the prefix once ${shared.ms.toFixed(2)} ms: ${(apart.ms / shared.ms).toFixed(2)}x, worst cosine ${worstCosine.toFixed(6)}`,
  )
  return { queries: 64, prefix: 24, own: 12, apartMs: apart.ms, sharedMs: shared.ms, worstCosine }
}

/** 4,000 texts of lognormal lengths (median 96 tokens, sigma 0.8, at most 512) in the order they come, each pass filled with
 * whole texts; beside the same texts padded to 512, at the rate of 32 x 512 in the same process. */
export async function measureMixed(engine, { vocabulary, passTokens, paddedTextsPerSecond }) {
  const lengths = realLengths(4000, { median: 96, sigma: 0.8, least: 1, most: 512 })
  const sequences = lengths.map((length, i) =>
    Array.from({ length }, (_, at) => (at * 7919 + i * 131 + 5) % vocabulary),
  )
  const batches = [[]]
  let tokens = 0
  for (const ids of sequences) {
    if (tokens + ids.length > passTokens) {
      batches.push([])
      tokens = 0
    }
    batches.at(-1).push(ids)
    tokens += ids.length
  }
  const packed = batches.map(pack)
  const totalTokens = lengths.reduce((a, b) => a + b)
  const times = await timeRounds(3, async () => {
    for (const batch of packed) await engine.embed(batch)
  })
  const seconds = Math.min(...times) / 1e3
  const result = {
    texts: lengths.length,
    tokens: totalTokens,
    passes: packed.length,
    textsPerSecond: lengths.length / seconds,
    tokensPerSecond: totalTokens / seconds,
    ...(paddedTextsPerSecond === undefined
      ? {}
      : { ratioToPadding: lengths.length / seconds / paddedTextsPerSecond }),
  }
  console.log(
    `  4,000 texts of real lengths, ${totalTokens} tokens in ${packed.length} passes: ${result.textsPerSecond.toFixed(0)} texts/s, ${result.tokensPerSecond.toFixed(0)} tokens/s, ${result.ratioToPadding?.toFixed(2) ?? '-'}x padding to 512`,
  )
  return result
}

/** Three more come first and do not count. @returns milliseconds */
async function timeRounds(rounds, run) {
  const times = []
  for (let i = -3; i < rounds; i++) {
    const from = performance.now()
    await run()
    if (i >= 0) times.push(performance.now() - from)
  }
  return times
}
