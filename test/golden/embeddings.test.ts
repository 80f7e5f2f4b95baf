/** The real model against vectors that sentence-transformers made (scripts/make-golden.py), alone and in any batch. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cosine } from '../../src/engines/vectors.ts'
import { type Embedder, createEmbedder } from '../../src/index.ts'
import { readCpu } from '../../src/hardware/machine/cpu.ts'
import { cacheDir, hasOpenvino, hasRealModel, realModel } from '../fixtures/real-model.ts'

const { items, madeBy } = JSON.parse(
  readFileSync(new URL('../fixtures/golden-all-MiniLM-L6-v2.json', import.meta.url), 'utf8'),
) as { madeBy: string; items: { text: string; vector: string }[] }
const texts = items.map((item) => item.text)
const expected = items.map(
  (item) => new Float32Array(new Uint8Array(Buffer.from(item.vector, 'base64')).buffer),
)
const hasBf16 = [...readCpu().features].some((feature) => feature.endsWith('BF16'))

const engines = [
  { engine: 'onnx', precision: 'fp32', minCosine: 0.9999, isHere: true },
  { engine: 'openvino', precision: 'fp32', minCosine: 0.9999, isHere: hasOpenvino },
  // Emulated, and slow, on a CPU without bf16; the vectors are the same kind.
  { engine: 'openvino', precision: 'bf16', minCosine: hasBf16 ? 0.999 : 0.99, isHere: hasOpenvino },
] as const

for (const { engine, precision, minCosine, isHere } of engines) {
  describe.skipIf(!hasRealModel || !isHere)(`${engine} ${precision} against ${madeBy}`, () => {
    let embedder: Embedder
    beforeAll(async () => {
      embedder = await createEmbedder({
        model: realModel,
        cacheDir,
        offline: true,
        engine,
        precision,
        tokenizerWorkers: 0,
      })
    })
    afterAll(() => embedder[Symbol.asyncDispose]())

    it('is what was asked for', () => {
      expect(embedder.engine).toMatchObject({ name: engine, precision })
      expect(embedder.startup.golden.source).toBe('shipped')
    })

    it(`has a worst cosine above ${minCosine} alone`, async () => {
      const cosines: number[] = []
      for (const [i, text] of texts.entries())
        cosines.push(cosine((await embedder.embed([text]))[0]!, expected[i]!))
      expect(Math.min(...cosines)).toBeGreaterThan(minCosine)
    })

    it(`has a worst cosine above ${minCosine} in batches of mixed lengths, in any order`, async () => {
      for (const step of [1, 5, 13]) {
        const order = texts.map((_, i) => (i * step) % texts.length)
        const vectors = await embedder.embed(order.map((i) => texts[i]!))
        const cosines = order.map((i, place) => cosine(vectors[place]!, expected[i]!))
        expect(Math.min(...cosines)).toBeGreaterThan(minCosine)
      }
    })

    it('gives unit vectors', async () => {
      for (const vector of await embedder.embed(texts)) expect(Math.hypot(...vector)).toBeCloseTo(1, 5)
    })
  })
}
