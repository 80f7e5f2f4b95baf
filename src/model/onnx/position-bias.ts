/** MPNet's bucket of a relative position (key position - query position), computed in f32 as torch does, since a
 * rounding can move a boundary. @see transformers MPNetEncoder.relative_position_bucket */
export function relativePositionBucket(relativePosition: number, bucketCount: number): number {
  const maxDistance = 128
  const half = Math.floor(bucketCount / 2)
  const direction = relativePosition > 0 ? half : 0
  const distance = Math.abs(relativePosition)
  const maxExact = Math.floor(half / 2)
  if (distance < maxExact) return direction + distance
  const logRatio = Math.fround(Math.log(Math.fround(distance / maxExact)))
  const scaled = Math.fround(logRatio / Math.fround(Math.log(maxDistance / maxExact)))
  const large = maxExact + Math.trunc(Math.fround(scaled * (half - maxExact)))
  return direction + Math.min(large, half - 1)
}

/** The bias of every relative position from -(maxPositions - 1) up, so that the graph only has to gather.
 * @param biasByBucket f32 [bucketCount, headCount]   @returns f32 [headCount, 2 * maxPositions - 1] */
export function positionBiasTable(
  biasByBucket: Float32Array,
  sizes: { bucketCount: number; headCount: number; maxPositions: number },
): Float32Array {
  const { bucketCount, headCount, maxPositions } = sizes
  const width = 2 * maxPositions - 1
  const table = new Float32Array(headCount * width)
  for (let column = 0; column < width; column++) {
    const bucket = relativePositionBucket(column - (maxPositions - 1), bucketCount)
    for (let head = 0; head < headCount; head++) {
      table[head * width + column] = biasByBucket[bucket * headCount + head]!
    }
  }
  return table
}
