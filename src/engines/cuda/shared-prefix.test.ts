import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { pack } from '../../../test/engine-contract.ts'
import { canEmulate, openEmulatedLibraries } from '../../../test/fakes/emulated-gpu.ts'
import { writeNativeQwen3 } from '../../../test/fixtures/native-models.ts'
import { openCudaEngine } from './cuda-engine.ts'
import { makeSharedTiles, planSharedPrefix } from './shared-prefix.ts'

/** Queries of 2 to 6 tokens of their own behind one instruction. */
function makeQueries(count: number, prefix: number): number[][] {
  return Array.from({ length: count }, (_, i) => [
    ...Array.from({ length: prefix }, (_each, at) => (at * 31 + 7) % 290),
    ...Array.from({ length: 2 + (i % 5) }, (_each, at) => (i * 17 + at * 5 + 3) % 290),
  ])
}
const maxRows = 16_384
const plan = (sequences: readonly (readonly number[])[], most = maxRows) => {
  const { inputIds, cumulativeLengths } = pack(sequences)
  return planSharedPrefix(inputIds, cumulativeLengths, most)
}

describe('a shared prefix', () => {
  it('is there once, and each sequence finds it', () => {
    const sequences = makeQueries(40, 20)
    const { inputIds, cumulativeLengths } = pack(sequences)
    const found = plan(sequences)!
    // Own tokens: 40 x 4 on average; a query's first token may be that of all others by chance, not here.
    expect(found.ids.length).toBe(20 + 160)
    const { whole } = found
    for (const [row, id] of inputIds.entries()) {
      const token = whole.tokens[row]!
      expect(found.ids[token]).toBe(id)
      expect(found.positions[token]).toBe(whole.positions[row])
    }
    for (const [token, row] of whole.rowOfToken.entries()) expect(whole.tokens[row]).toBe(token)
    // The last token of each sequence, which is pooled, is its own.
    for (let i = 1; i <= sequences.length; i++)
      expect(whole.rowOfToken[found.cumulativeLengths[i]! - 1]).toBe(cumulativeLengths[i]! - 1)
    expect(new Set(found.positions.subarray(0, 20)).size).toBe(20)
    expect(whole.rows % 128).toBe(0)
  })

  it('leaves each sequence a token of its own, also where all are alike', () => {
    const found = plan(Array.from({ length: 100 }, () => [1, 2, 3, 4, 5, 6]))!
    expect(found.ids.length).toBe(5 + 100)
    expect([...found.ids.subarray(0, 8)]).toEqual([1, 2, 3, 4, 5, 6, 6, 6])
  })

  it('is left alone where it saves too little', () => {
    expect(plan(makeQueries(1, 600))).toBeUndefined()
    expect(plan(makeQueries(8, 20))).toBeUndefined()
    expect(plan(makeQueries(400, 1))).toBeUndefined()
    const different = makeQueries(40, 20).map((ids, i) => (i === 39 ? [299, ...ids] : ids))
    expect(plan(different)).toBeUndefined()
    // 960 tokens count as 1,024 and become 180, which count as 256.
    expect(plan(makeQueries(40, 20), 1024 + 256)).toBeDefined()
    expect(plan(makeQueries(40, 20), 1024 + 128)).toBeUndefined()
  })

  it('has its queries in the attention once', () => {
    const found = plan(makeQueries(10, 70))!
    const tiles = makeSharedTiles(found, { queries: 32, tileCount: 40 })
    const rows = Array.from({ length: 40 }, (_, i) => [...tiles.subarray(i * 4, i * 4 + 3)])
    const used = rows.filter(([, length]) => length! > 0)
    const { cumulativeLengths } = found.whole
    // All three of the first sequence; of the others the one from 64 on.
    expect(used.filter(([begin]) => begin === 0).map(([, , first]) => first)).toEqual([64, 32, 0])
    expect(
      used
        .slice(0, -2)
        .map(([begin]) => begin)
        .sort((a, b) => a! - b!),
    ).toEqual([...cumulativeLengths.subarray(0, 10)])
    expect(used).toHaveLength(12)
  })
})

describe.skipIf(!canEmulate)('a shared prefix on the emulated GPU', { timeout: 120_000 }, () => {
  it('changes no vector, and computes each token once', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'shared-prefix-'))
    afterAll(() => rm(folder, { recursive: true }))
    const spec = await writeNativeQwen3(folder)
    const batch = pack(makeQueries(12, 30))
    for (const precision of ['bf16', 'fp8'] as const) {
      const embed = async (sharePrefix: boolean) => {
        const libraries = await openEmulatedLibraries()
        const rows = new Set<number>()
        const { cublasLtMatrixLayoutCreate: create } = libraries.cublaslt
        const cublaslt = {
          ...libraries.cublaslt,
          cublasLtMatrixLayoutCreate: (...args: Parameters<typeof create>) => {
            rows.add(args[3])
            create(...args)
          },
        }
        const scales = { kind: 'fixed', scale: 8 / 448 } as const
        const options = { spec, precision, scales, sharePrefix }
        await using engine = await openCudaEngine(options, { ...libraries, cublaslt })
        return { values: (await engine.embed(batch)).values, rows }
      }
      const [apart, shared] = [await embed(false), await embed(true)]
      expect(shared.values).toEqual(apart.values)
      // 405 tokens count as 512; 30 and 45 of their own as 80.
      expect([apart.rows.has(512), shared.rows.has(512), shared.rows.has(80)]).toEqual([true, false, true])
    }
  })
})
