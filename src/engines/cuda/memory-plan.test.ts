import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { canEmulate, openEmulatedLibraries } from '../../../test/fakes/emulated-gpu.ts'
import { failureOf, thrownBy } from '../../../test/fakes/failure.ts'
import { writeNativeBert, writeNativeQwen3 } from '../../../test/fixtures/native-models.ts'
import { openCudaEngine } from './cuda-engine.ts'
import { decoderMemory, planMemory } from './memory-plan.ts'
import { openModel } from './open-model.ts'

const gib = 2 ** 30
const qwen4b = {
  hiddenSize: 2560,
  layerCount: 36,
  headCount: 32,
  keyValueHeadCount: 8,
  headSize: 128,
  intermediateSize: 9728,
  vocabularySize: 151_936,
  rmsNormEpsilon: 1e-6,
  ropeTheta: 1e6,
  attentionBias: false,
}
/** As the engine asks. */
const asked = { passTokens: 4096, chunkRows: 4096, graphs: 32 }
const ofQwen4b = decoderMemory(qwen4b, 'fp8')

describe('the tokens of a pass', () => {
  it('are those asked for, or those of the longest text, where there is room', () => {
    const gpu = { freeBytes: 79 * gib, totalBytes: 80 * gib }
    expect(ofQwen4b.matrixElements).toBe(36 * 2560 * (6144 + 4096 + 3 * 9728))
    expect(planMemory(ofQwen4b, { ...asked, textTokens: 512 }, gpu)).toEqual({
      maxPassTokens: 4096,
      maxTokens: 512,
      chunkRows: 4096,
    })
    expect(planMemory(ofQwen4b, { ...asked, textTokens: 32_768 }, gpu)).toEqual({
      maxPassTokens: 32_768,
      maxTokens: 32_768,
      chunkRows: 4096,
    })
  })

  it('are as many as fit, and so are those of a text', () => {
    const gpu = { freeBytes: 4 * gib, totalBytes: 8 * gib }
    const limits = planMemory(ofQwen4b, { ...asked, textTokens: 32_768 }, gpu)
    expect(limits.maxTokens).toBe(limits.maxPassTokens)
    expect(limits.maxTokens % 128).toBe(0)
    const needed = (tokens: number) =>
      ofQwen4b.weightBytes + ofQwen4b.bufferBytes(tokens, 1024) + ((32 + 32 * 3) << 20)
    expect(needed(limits.maxTokens)).toBeLessThanOrEqual(gpu.freeBytes)
    expect(needed(limits.maxTokens + 128)).toBeGreaterThan(gpu.freeBytes)
    expect(planMemory(ofQwen4b, { ...asked, passTokens: 16_384, textTokens: 512 }, gpu).maxTokens).toBe(512)
    // 4 GiB of another's are in use: a limit of 8 leaves as much, one of 7.7 less.
    const shared = { freeBytes: 76 * gib, totalBytes: 80 * gib }
    const within = (limit: number) =>
      planMemory(ofQwen4b, { ...asked, textTokens: 32_768 }, { ...shared, limitBytes: limit * gib }).maxTokens
    expect(within(8)).toBe(limits.maxTokens)
    expect(within(7.7)).toBeLessThan(limits.maxTokens)
  })

  it('stay whole while fewer rows a product make room', () => {
    // An H200 whose context, with a small stack and the products' workspace, takes 363 MiB.
    const gpu = { freeBytes: 140 * gib - (363 << 20), totalBytes: 140 * gib }
    const within = (limitBytes: number) =>
      planMemory(ofQwen4b, { ...asked, textTokens: 512 }, { ...gpu, limitBytes })
    expect(within(4.2 * gib)).toEqual({ maxPassTokens: 4096, maxTokens: 512, chunkRows: 4096 })
    expect(within(4 * gib)).toEqual({ maxPassTokens: 4096, maxTokens: 512, chunkRows: 2048 })
    expect(within(3.97 * gib)).toMatchObject({ maxTokens: 512, chunkRows: 1024 })
    expect(within(3.97 * gib).maxPassTokens).toBeLessThan(4096)
  })

  it('are refused with the numbers where not even short texts fit', () => {
    const gpu = { freeBytes: 3 * gib, totalBytes: 24 * gib }
    const failure = thrownBy(() => planMemory(ofQwen4b, { ...asked, textTokens: 32_768 }, gpu))
    expect(failure.code).toBe('GPU_OUT_OF_MEMORY')
    expect(failure.message).toContain('3465 MiB of weights and passes of 512 tokens')
    expect(failure.details).toMatchObject({ freeBytes: 3 * gib, totalBytes: 24 * gib })
  })
})

describe.skipIf(!canEmulate)('what a model takes', { timeout: 60_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'memory-plan-'))
  afterAll(() => rm(folder, { recursive: true }))

  for (const [name, write] of [
    ['Qwen3', writeNativeQwen3],
    ['BERT', writeNativeBert],
  ] as const) {
    it(`is reckoned as ${name} then takes it`, async () => {
      const spec = await write(folder)
      for (const precision of ['bf16', 'fp8', 'fp8-rowwise'] as const) {
        const options = { precision, chunkRows: 128, maxPassTokens: 1024 }
        const scales = { kind: 'fixed', scale: 1 } as const
        await using engine = await openCudaEngine({ spec, scales, ...options }, await openEmulatedLibraries())
        await using model = await openModel(spec, options)
        const { weightBytes, bufferBytes } = model.memory
        const reckonedBytes = bufferBytes(1024, 128)
        // Norms, biases and rotations beside the matrices; ids, tiles and vectors beside the buffers between the layers.
        expect(engine.memory.weightBytes / weightBytes).toBeGreaterThan(0.99)
        expect(engine.memory.weightBytes - weightBytes).toBeLessThan(40_000)
        expect(engine.memory.activationBytes / reckonedBytes).toBeGreaterThan(0.99)
        expect(engine.memory.activationBytes - reckonedBytes).toBeLessThan(500_000)
      }
    })
  }

  it('decides what texts the engine takes', async () => {
    const spec = await writeNativeQwen3(folder)
    const libraries = await openEmulatedLibraries()
    const notes: string[] = []
    const options = { spec: { ...spec, maxTokens: 100_000 }, precision: 'bf16' } as const
    // The emulated GPU has 5 of 7 GiB free.
    const open = async (memoryLimitBytes: number) =>
      openCudaEngine(
        { ...options, memoryLimitBytes, graphs: 0, onNote: (note) => notes.push(note) },
        libraries,
      )
    await using engine = await open(2 * gib + (44 << 20))
    expect(engine.info.maxTokens).toBeLessThan(100_000)
    expect(engine.info.maxTokens).toBeGreaterThan(512)
    expect(notes).toEqual([
      `cuda: the GPU's memory has room for texts of ${engine.info.maxTokens} tokens, the model takes 100000`,
    ])
    expect((await failureOf(open(2 * gib))).code).toBe('GPU_OUT_OF_MEMORY')
  })
})
