import { expect, it } from 'vitest'
import { packEncodings, unpackEncodings } from './packed-encoding.ts'

it('packs texts into one buffer and back, empty ones and none too', () => {
  const encodings = [
    { ids: [101, 7, 102], totalTokens: 900 },
    { ids: [], totalTokens: 5 },
    { ids: [250_001], totalTokens: 1 },
  ]
  const packed = packEncodings(encodings)
  expect([...packed]).toEqual([900, 5, 1, 3, 0, 1, 101, 7, 102, 250_001])
  expect(unpackEncodings(packed, 3)).toEqual(
    encodings.map(({ ids, totalTokens }) => ({ ids: Int32Array.from(ids), totalTokens })),
  )
  expect(unpackEncodings(packEncodings([]), 0)).toEqual([])
})
