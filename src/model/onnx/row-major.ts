import type { Elements } from './element-types.ts'

/** 32 x 32 floats of source and target are 8 KiB, which stay in the first cache level. */
const tileSize = 32

/** [rows, columns] -> [columns, rows], in new memory. */
export function transpose<T extends Elements>(source: T, rows: number, columns: number): T {
  const target = new (source.constructor as new (length: number) => T)(source.length)
  for (let rowStart = 0; rowStart < rows; rowStart += tileSize) {
    const rowEnd = Math.min(rowStart + tileSize, rows)
    for (let columnStart = 0; columnStart < columns; columnStart += tileSize) {
      const columnEnd = Math.min(columnStart + tileSize, columns)
      for (let row = rowStart; row < rowEnd; row++) {
        for (let column = columnStart; column < columnEnd; column++) {
          target[column * rows + row] = source[row * columns + column]!
        }
      }
    }
  }
  return target
}

/** Adds `row` to every row of `table` [rows, row.length]; gives `table` back. */
export function addInPlace(table: Float32Array, row: Float32Array): Float32Array {
  for (let start = 0; start < table.length; start += row.length) {
    for (let column = 0; column < row.length; column++) table[start + column]! += row[column]!
  }
  return table
}
