/** One vector a sequence out of its hidden states: the CPU path, and the oracle for kernels. Nothing is normalised. */
import type { Pooling } from '../../model/spec.ts'
import type { Rectangle } from '../rectangular/padding.ts'

/** Pools `length` rows of `hidden` f32 [rows, hiddenSize] that start at `startRow` into `out` at `outStart`.
 * mean: over the real tokens; cls: the first row; last-token: the last real one. @see arXiv:1908.10084 §3 */
export function poolSequence(
  pooling: Pooling,
  hidden: Float32Array,
  startRow: number,
  length: number,
  hiddenSize: number,
  out: Float32Array,
  outStart: number,
): void {
  if (pooling === 'mean') {
    meanRows(hidden, startRow * hiddenSize, length, hiddenSize, out, outStart)
    return
  }
  const row = pooling === 'cls' ? startRow : startRow + length - 1
  out.set(hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize), outStart)
}

/** @param hidden f32 [totalTokens, hiddenSize]  @param cumulativeLengths i32 [batchSize + 1]
 * @returns f32 [batchSize, hiddenSize], caller owns */
export function poolPacked(
  pooling: Pooling,
  hidden: Float32Array,
  cumulativeLengths: Int32Array,
  hiddenSize: number,
): Float32Array {
  const batchSize = cumulativeLengths.length - 1
  const out = new Float32Array(batchSize * hiddenSize)
  for (let i = 0; i < batchSize; i++) {
    const start = cumulativeLengths[i]!
    const length = cumulativeLengths[i + 1]! - start
    poolSequence(pooling, hidden, start, length, hiddenSize, out, i * hiddenSize)
  }
  return out
}

/** Pools padded rows into their places in the batch's result.
 * @param hidden f32 [rectangle rows, paddedLength, hiddenSize]  @param out f32 [batchSize, hiddenSize] */
export function poolRectangle(
  pooling: Pooling,
  hidden: Float32Array,
  rectangle: Rectangle,
  cumulativeLengths: Int32Array,
  hiddenSize: number,
  out: Float32Array,
): void {
  rectangle.sequences.forEach((sequence, row) => {
    const length = cumulativeLengths[sequence + 1]! - cumulativeLengths[sequence]!
    const startRow = row * rectangle.paddedLength
    poolSequence(pooling, hidden, startRow, length, hiddenSize, out, sequence * hiddenSize)
  })
}

function meanRows(
  hidden: Float32Array,
  start: number,
  length: number,
  hiddenSize: number,
  out: Float32Array,
  outStart: number,
): void {
  const scale = 1 / length
  const end = start + length * hiddenSize
  for (let i = 0; i < hiddenSize; i++) out[outStart + i] = 0
  // Four rows a pass: a quarter of the loads and stores of `out`, and three of four sums are carried in f64.
  let row = start
  for (; row + 4 * hiddenSize <= end; row += 4 * hiddenSize) {
    const second = row + hiddenSize
    const third = second + hiddenSize
    const fourth = third + hiddenSize
    for (let i = 0; i < hiddenSize; i++) {
      out[outStart + i]! += hidden[row + i]! + hidden[second + i]! + hidden[third + i]! + hidden[fourth + i]!
    }
  }
  for (; row < end; row += hiddenSize) {
    for (let i = 0; i < hiddenSize; i++) out[outStart + i]! += hidden[row + i]!
  }
  for (let i = 0; i < hiddenSize; i++) out[outStart + i]! *= scale
}
