/** Engines that need rectangles cut a ragged batch into few padded ones here. */
import type { PackedBatch } from '../engine.ts'

/** Sequences that run together, padded to one length. */
export interface Rectangle {
  /** Places in the batch, longest first. */
  readonly sequences: Int32Array
  readonly paddedLength: number
}

/** What a runtime takes in one run, and what that costs. */
export interface RectangleShapes {
  readonly maxRows: number
  /** What a run of `rows` sequences of at most `length` tokens costs, in cells, its fixed cost included; Infinity: that
   * does not run at once. One row always runs. */
  cost(rows: number, length: number): number
  /** The length that such rows are padded to. */
  paddedLength(rows: number, length: number): number
}

export interface RectangleLimits {
  readonly maxRows: number
  /** Most cells (rows x paddedLength) of one rectangle; a single sequence may exceed it. */
  readonly maxCells: number
  /** Lengths are rounded up to a multiple, so that shapes repeat. */
  readonly lengthMultiple: number
  /** The longest length the model takes: rounding stops there. */
  readonly maxTokens: number
  /** What one more rectangle costs, in cells. */
  readonly overheadCells: number
}

/** Every shape within limits. */
export function shapesWithin(limits: RectangleLimits): RectangleShapes {
  const { maxRows, maxCells, overheadCells } = limits
  return {
    maxRows,
    cost(rows, length) {
      const cells = rows * roundUp(length, limits)
      return rows > 1 && cells > maxCells ? Infinity : overheadCells + cells
    },
    paddedLength: (_, length) => roundUp(length, limits),
  }
}

/** The cheapest cut of a batch into rectangles. */
export function planRectangles(cumulativeLengths: Int32Array, shapes: RectangleShapes): Rectangle[] {
  const count = cumulativeLengths.length - 1
  const lengths = Int32Array.from(
    { length: count },
    (_, i) => cumulativeLengths[i + 1]! - cumulativeLengths[i]!,
  )
  const order = Int32Array.from(lengths.keys()).sort((a, b) => lengths[b]! - lengths[a]! || a - b)
  // cost[i]: cheapest cut of order[i..]; next[i]: where its first rectangle ends. Longest first, so the first row rules.
  const cost = new Float64Array(count + 1)
  const next = new Int32Array(count)
  for (let i = count - 1; i >= 0; i--) {
    const length = lengths[order[i]!]!
    const rows = Math.min(shapes.maxRows, count - i)
    cost[i] = Infinity
    for (let end = i + 1; end <= i + rows; end++) {
      const total = shapes.cost(end - i, length) + cost[end]!
      if (total <= cost[i]!) {
        cost[i] = total
        next[i] = end
      }
    }
  }
  const rectangles: Rectangle[] = []
  for (let i = 0; i < count; i = next[i]!) {
    const end = next[i]!
    rectangles.push({
      sequences: order.slice(i, end),
      paddedLength: shapes.paddedLength(end - i, lengths[order[i]!]!),
    })
  }
  return rectangles
}

/** Where the cells of one model input go: i32 [capacity], or i64 [capacity] seen as halves of i32. */
export interface CellBuffer {
  readonly values: Int32Array
  /** i32 a cell: 1 for int32 inputs, 2 for int64 (little-endian: the low half first, the high half stays 0). */
  readonly stride: 1 | 2
}

export interface RectangleInputs {
  readonly inputIds?: CellBuffer | undefined
  readonly attentionMask?: CellBuffer | undefined
  readonly positionIds?: CellBuffer | undefined
}

/** Writes the cells [rows, paddedLength] of a rectangle; padding is `padTokenId` with mask 0 and position 0. */
export function writeRectangle(
  batch: PackedBatch,
  rectangle: Rectangle,
  padTokenId: number,
  inputs: RectangleInputs,
): void {
  const { sequences, paddedLength } = rectangle
  const { inputIds, attentionMask, positionIds } = inputs
  let cell = 0
  for (const sequence of sequences) {
    const start = batch.cumulativeLengths[sequence]!
    const length = batch.cumulativeLengths[sequence + 1]! - start
    const end = cell + paddedLength
    if (inputIds !== undefined) {
      for (let i = 0; i < length; i++)
        inputIds.values[(cell + i) * inputIds.stride] = batch.inputIds[start + i]!
      for (let i = cell + length; i < end; i++) inputIds.values[i * inputIds.stride] = padTokenId
    }
    if (attentionMask !== undefined) {
      for (let i = cell; i < end; i++) {
        attentionMask.values[i * attentionMask.stride] = i < cell + length ? 1 : 0
      }
    }
    if (positionIds !== undefined) {
      for (let i = 0; i < paddedLength; i++) {
        positionIds.values[(cell + i) * positionIds.stride] = i < length ? i : 0
      }
    }
    cell = end
  }
}

function roundUp(length: number, limits: RectangleLimits): number {
  const rounded = Math.ceil(length / limits.lengthMultiple) * limits.lengthMultiple
  return Math.max(length, Math.min(rounded, limits.maxTokens))
}
