/** The same numbers on every machine: checks that fail can be run again. */

import { toBf16 } from './number-formats.ts'

/** Not a power of two, so that rows differ. */
const freshCount = 1_000_003

/** mulberry32 */
export function makeRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** makeNormal as bf16 bits. */
export function makeNormalBf16(count: number, seed: number, deviation = 1): Uint16Array {
  return repeat(toBf16(makeNormal(Math.min(count, freshCount), seed, deviation)), new Uint16Array(count))
}

/** About normal, with a few values eight times as large: activations have outliers. Beyond a million values they repeat. */
export function makeNormal(count: number, seed: number, deviation = 1): Float32Array {
  const random = makeRandom(seed)
  const values = new Float32Array(Math.min(count, freshCount))
  for (const i of values.keys()) {
    // Irwin-Hall of 4, brought to variance 1.
    const normal = (random() + random() + random() + random() - 2) * Math.sqrt(3)
    values[i] = normal * deviation * (random() < 0.002 ? 8 : 1)
  }
  return repeat(values, new Float32Array(count))
}

function repeat<Values extends Uint16Array | Float32Array>(values: Values, into: Values): Values {
  for (let at = 0; at < into.length; at += values.length)
    into.set(values.subarray(0, Math.min(values.length, into.length - at)), at)
  return into
}
