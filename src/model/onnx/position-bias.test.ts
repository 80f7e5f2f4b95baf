import { expect, test } from 'vitest'
import { readTinyGolden } from '../../../test/fixtures/tiny-model.ts'
import { positionBiasTable, relativePositionBucket } from './position-bias.ts'

test('buckets are those of transformers from -200 to 200, boundaries included', async () => {
  const { from, buckets } = (await readTinyGolden()).mpnetBuckets
  expect(buckets).toHaveLength(401)
  expect(buckets.map((_, i) => relativePositionBucket(from + i, 32))).toEqual(buckets)
})

test('the table holds, for each head, the bias of every relative position', () => {
  const biasByBucket = Float32Array.from({ length: 64 }, (_, i) => i)
  const table = positionBiasTable(biasByBucket, { bucketCount: 32, headCount: 2, maxPositions: 3 })
  // From two back to two ahead: buckets 2, 1, 0, 17, 18.
  expect([...table]).toEqual([4, 2, 0, 34, 36, 5, 3, 1, 35, 37])
})
