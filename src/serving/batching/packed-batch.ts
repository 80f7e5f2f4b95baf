import type { PackedBatch } from '../../engines/engine.ts'

/** Lays sequences end to end. @param sequences each i32 [length], length > 0 */
export function packBatch(sequences: readonly Int32Array[]): PackedBatch {
  const cumulativeLengths = new Int32Array(sequences.length + 1)
  for (const [i, ids] of sequences.entries()) cumulativeLengths[i + 1] = cumulativeLengths[i]! + ids.length
  const inputIds = new Int32Array(cumulativeLengths[sequences.length]!)
  for (const [i, ids] of sequences.entries()) inputIds.set(ids, cumulativeLengths[i])
  return { inputIds, cumulativeLengths }
}
