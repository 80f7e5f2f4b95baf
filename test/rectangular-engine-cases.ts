/** What engines that pad must do with the inputs and outputs of real ONNX exports; run by each one's test. */
import { describe, expect, it } from 'vitest'
import type { Engine } from '../src/engines/engine.ts'
import type { ModelSpec } from '../src/model/spec.ts'
import { pack, rowOf } from './engine-contract.ts'
import { portModelPath, portModelSpec } from './fixtures/port-models.ts'

export function describeModelPorts(
  name: string,
  createEngine: (spec: ModelSpec, onnxPath: string) => Promise<Engine>,
): void {
  describe(`${name} and the ports of a model`, () => {
    it('fills ids, mask, token types and positions by name', async () => {
      await using engine = await createEngine(portModelSpec(), portModelPath('all-inputs'))
      const { values } = await engine.embed(pack([[7, 8, 9], [5]]), { output: 'tokens' })
      const rows = [0, 1, 2, 3].map((row) => Array.from(values.subarray(row * 5, row * 5 + 4)))
      expect(rows).toEqual([
        [7, 1, 0, 0],
        [8, 1, 0, 1],
        [9, 1, 0, 2],
        [5, 1, 0, 0],
      ])
    })

    it('pools what the graph did not', async () => {
      for (const [pooling, id, position] of [
        ['mean', 8, 1],
        ['cls', 7, 0],
        ['last-token', 9, 2],
      ] as const) {
        await using engine = await createEngine(portModelSpec({ pooling }), portModelPath('all-inputs'))
        const result = await engine.embed(pack([[5], [7, 8, 9]]), { normalize: false })
        expect(Array.from(rowOf(result, 1).subarray(0, 4))).toEqual([id, 1, 0, position])
        expect(Array.from(rowOf(result, 0).subarray(0, 4))).toEqual([5, 1, 0, 0])
      }
    })

    it('takes int32 inputs and a graph that pools itself', async () => {
      await using engine = await createEngine(portModelSpec({ hiddenSize: 3 }), portModelPath('pooled-int32'))
      expect(engine.info).toMatchObject({ dimensions: 3, outputs: ['pooled'] })
      const batch = pack([[4, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17], [3]])
      const result = await engine.embed(batch, { normalize: false })
      // [sum of real ids, real tokens]: a wrong mask or pad id would show in both.
      expect([0, 1, 2].map((row) => Array.from(rowOf(result, row).subarray(0, 2)))).toEqual([
        [9, 2],
        [153, 17],
        [3, 1],
      ])
      await expect(engine.embed(batch, { output: 'tokens' })).rejects.toMatchObject({
        code: 'OUTPUT_NOT_SUPPORTED',
      })
    })

    it('names the texts whose vectors are not finite, and gives the others', async () => {
      await using engine = await createEngine(portModelSpec(), portModelPath('all-inputs'))
      const batch = pack([[1, 2], [666, 3], [3], [4, 666]])
      for (const output of ['pooled', 'tokens'] as const) {
        const result = await engine.embed(batch, { output, normalize: false })
        expect(result.nonFiniteSequences).toEqual([1, 3])
        const row = output === 'pooled' ? 2 : 4
        expect(Array.from(rowOf(result, row).subarray(0, 4))).toEqual([3, 1, 0, 0])
      }
      expect((await engine.embed(pack([[1, 2]]))).nonFiniteSequences).toEqual([])
    })

    it('refuses a graph with inputs it cannot fill', async () => {
      await expect(createEngine(portModelSpec(), portModelPath('decoder'))).rejects.toMatchObject({
        code: 'ENGINE_UNAVAILABLE',
        message: expect.stringContaining('past_key_values.0.key') as string,
      })
    })
  })
}
