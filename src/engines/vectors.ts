/** Vector arithmetic on f32 rows; every sum is carried in f64. */

/** Cosine of two rows of equal length; NaN when either is zero or not finite. */
export function cosine(a: Float32Array, b: Float32Array): number {
  let dot = 0
  let aa = 0
  let bb = 0
  for (let i = 0; i < a.length; i++) {
    const x = a[i]!
    const y = b[i]!
    dot += x * y
    aa += x * x
    bb += y * y
  }
  return dot / Math.sqrt(aa * bb)
}

/** Scales each of `rows` rows of `values` [rows, dimensions] to length 1, in place; a zero row stays zero. */
export function normalizeRows(values: Float32Array, rows: number, dimensions: number): void {
  for (let row = 0; row < rows; row++) {
    const start = row * dimensions
    let sum = 0
    for (let i = start; i < start + dimensions; i++) sum += values[i]! * values[i]!
    if (sum === 0) continue
    const scale = 1 / Math.sqrt(sum)
    for (let i = start; i < start + dimensions; i++) values[i]! *= scale
  }
}

/** Matryoshka cut: the first `dimensions` of each row, normalised again when asked. @see arXiv:2205.13147 */
export function truncateDimensions(
  values: Float32Array,
  rows: number,
  fromDimensions: number,
  toDimensions: number,
  normalize: boolean,
): Float32Array {
  const cut = new Float32Array(rows * toDimensions)
  for (let row = 0; row < rows; row++) {
    cut.set(values.subarray(row * fromDimensions, row * fromDimensions + toDimensions), row * toDimensions)
  }
  if (normalize) normalizeRows(cut, rows, toDimensions)
  return cut
}

const zero = 0

/** Index of the first row that holds NaN or infinity, or -1. */
export function findNonFiniteRow(values: Float32Array, dimensions: number): number {
  // A finite value times zero is zero, any other is NaN: one branch a row instead of one a value.
  for (let start = 0; start < values.length; start += dimensions) {
    let sum = 0
    for (let i = start; i < start + dimensions; i++) sum += zero * values[i]!
    if (sum !== 0) return start / dimensions
  }
  return -1
}
