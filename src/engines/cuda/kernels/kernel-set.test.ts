import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { cacheDir } from '../../../../test/fixtures/real-model.ts'
import { realNvrtc } from '../../../../test/fixtures/real-nvrtc.ts'
import { KernelCompiler } from '../../../hardware/gpu/compiler.ts'
import { DiskCache } from '../../../hardware/gpu/disk-cache.ts'
import { type MatmulPrecision, matmulPrecisions } from '../../../hardware/gpu/matmul.ts'
import { kernelFiles, type KernelVariant, readKernelSource } from './kernel-loader.ts'
import { attentionTunings } from './flash-attention.check.ts'
import { flashAttentionVariant } from './flash-attention.ts'
import { bertKernels, qwen3Kernels } from './kernel-set.ts'
import { qkNormRopeVariant } from './qk-norm-rope.ts'
import { quantizeRowsVariant } from './quantize-rows.ts'
import { residualRmsnormVariant } from './residual-rmsnorm.ts'

const chips = [80, 89, 90, 100, 110, 120]

const qwen4b = {
  hiddenSize: 2560,
  intermediateSize: 9728,
  heads: 32,
  kvHeads: 8,
  headSize: 128,
  epsilon: 1e-6,
}
const minilm = {
  hiddenSize: 384,
  intermediateSize: 1536,
  heads: 12,
  kvHeads: 12,
  headSize: 32,
  epsilon: 1e-12,
}
const bgeBase = {
  hiddenSize: 768,
  intermediateSize: 3072,
  heads: 12,
  kvHeads: 12,
  headSize: 64,
  epsilon: 1e-12,
}

function setFor(precision: MatmulPrecision): KernelVariant[] {
  return [
    qwen3Kernels(qwen4b, precision),
    bertKernels(minilm, precision),
    bertKernels(bgeBase, precision),
  ].flat()
}

describe.skipIf(realNvrtc === undefined)('the kernels, compiled by NVRTC', () => {
  // Attention takes NVRTC seconds; what has not changed is not compiled again.
  const cache = new DiskCache(join(cacheDir, 'test-tools', 'kernels'))
  const compiler = new KernelCompiler(realNvrtc!, { cache })
  const compile = async ({ file, defines }: KernelVariant, architecture: string) =>
    compiler.compile({ source: await readKernelSource(file), defines, target: { architecture } })

  for (const chip of chips) {
    it(`sm_${chip} has a complete set`, { timeout: 120_000 }, async () => {
      const all = (chip < 89 ? (['bf16'] as const) : matmulPrecisions).flatMap(setFor)
      const variants = [...new Map(all.map((variant) => [JSON.stringify(variant), variant])).values()]
      expect(variants.filter(({ minArchitecture }) => minArchitecture > chip)).toEqual([])
      const images = await Promise.all(variants.map((variant) => compile(variant, `sm_${chip}`)))
      for (const [i, image] of images.entries())
        expect(Buffer.from(image).toString('latin1')).toContain(`.text.${variants[i]!.file}`)
    })
  }

  it('no kernel reads or writes what others work on before it waits for the one before', async () => {
    const all = matmulPrecisions.flatMap(setFor)
    for (const variant of new Map(all.map((each) => [each.file, each])).values()) {
      const ptx = Buffer.from(await compile(variant, 'compute_90')).toString()
      const bodies = ptx.split('.visible .entry ').slice(1)
      expect(bodies.length).toBeGreaterThan(0)
      for (const body of bodies) {
        const [before, after] = body.split('griddepcontrol.wait;')
        expect(after, variant.file).toBeDefined()
        // Weights come by ld.global.nc: no kernel of a pass writes them.
        expect(before, variant.file).not.toMatch(/(ld\.global(?!\.nc)|st\.global|atom\.global|cp\.async)/)
      }
    }
  })

  it('every way to build attention compiles', { timeout: 120_000 }, async () => {
    for (const tuning of Object.values(attentionTunings)) {
      const options = { ...qwen4b, isCausal: true, rope: { epsilon: 1e-6 }, output: 'fp8', tuning } as const
      const image = await compile(flashAttentionVariant(options), 'sm_90')
      expect(Buffer.from(image).toString('latin1')).toContain('.text.flash_attention')
    }
  })

  it('every file is in a set', () => {
    const used = new Set(matmulPrecisions.flatMap(setFor).map(({ file }) => file))
    expect(used).toEqual(new Set(kernelFiles))
  })

  it('what stands in no set compiles too', async () => {
    const shape = { rowSize: 2560, output: 'fp8' } as const
    for (const variant of [
      residualRmsnormVariant({ ...shape, epsilon: 1e-6, withDelta: true }),
      qkNormRopeVariant({ ...qwen4b, norm: { epsilon: 1e-6 } }),
      quantizeRowsVariant({ ...shape, source: 'fp16' }),
      quantizeRowsVariant({ ...shape, source: 'fp32' }),
    ]) {
      expect((await compile(variant, 'sm_90')).length).toBeGreaterThan(1000)
    }
  })
})
