import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { classifyKernel, classifyTimes } from './kernel-classes.ts'
import { summariseKernels } from './time-summary.ts'
import { makeActivity, makeKernel } from '../../../test/fixtures/gpu-activity.ts'

describe('a kernel of', () => {
  it.each([
    // cuBLASLt, Hopper and later
    ['nvjet_qqtst_128x256_128x6_2x1_2cta_v_bz_TNT', 'FP8 GEMM'],
    ['nvjet_qqhsh_128x128_128x6_2x1_h_bz_TNT', 'FP8 GEMM'],
    ['nvjet_sm90_qqtst_64x8_128x16_4x1_v_bz_splitK_TNT', 'FP8 GEMM'],
    ['nvjet_tst_192x192_64x3_2x1_v_bz_coopB_NTN', 'BF16 GEMM'],
    ['nvjet_sm90_tst_128x8_64x12_4x1_v_bz_TNT', 'BF16 GEMM'],
    ['nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NTT', 'FP16 GEMM'],
    // cuBLASLt before, and TensorRT
    ['sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize128x128x128_warpgroupsize1x1x1', 'FP8 GEMM'],
    ['sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64_cgasize2x1x1', 'BF16 GEMM'],
    ['ampere_bf16_s16816gemm_bf16_128x64_ldg8_relu_f2f_stages_64x4_tn', 'BF16 GEMM'],
    ['ampere_fp16_s1688gemm_fp16_128x128_ldg8_f2f_stages_32x1_nn', 'FP16 GEMM'],
    ['sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize32x32x8', 'FP32 GEMM'],
    ['cutlass3x_sm90_tensorop_gemm_e4m3_e4m3_f32_bf16_bf16_64x128x128', 'FP8 GEMM'],
    ['void cutlass::device_kernel<at::cuda::detail::gemm_kernel_sm90>', 'GEMM of unknown precision'],
    ['void cublasLt::splitKreduce_kernel<32, 16, int, __nv_bfloat16, float>', 'elementwise'],
    // TensorRT
    ['_gemm_mha_v2_0xdec502f2b52e4e9c2211f7b32af27176', 'attention'],
    ['fmha_v2_flash_attention_bf16_64_128_S_128_sm80_kernel', 'attention'],
    ['__myl_MulMinMaxCasResTra_0x86f9e5c4598253db2a7cb21bb4e627d8', 'elementwise'],
    ['__myl_CasMulMeaAddSqrDivMulCas_0x59bf2eb4eaec0cb7167e74de31ecdd1d', 'norm'],
    // PyTorch
    ['void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>', 'elementwise'],
    ['void at::native::unrolled_copy_kernel', 'copy'],
    ['ncclDevKernel_AllReduce_Sum_bf16_RING_LL', 'other'],
  ])('%s: %s', (name, kernelClass) => {
    expect(classifyKernel(name)).toBe(kernelClass)
  })

  it('the native engine is never without a class', () => {
    const folder = fileURLToPath(new URL('../../engines/cuda/kernels', import.meta.url))
    const sources = readdirSync(folder).filter((file) => file.endsWith('.cu'))
    const names = sources.flatMap((file) =>
      [...readFileSync(`${folder}/${file}`, 'utf8').matchAll(/__global__[^;{]*?\bvoid\s+(\w+)\s*\(/g)].map(
        ([, name]) => name!,
      ),
    )
    expect(names.length).toBeGreaterThanOrEqual(sources.length)
    const classes = Object.fromEntries(names.map((name) => [name, classifyKernel(name)]))
    expect(names.filter((name) => classes[name] === 'other')).toEqual([])
    expect(classes).toMatchObject({
      flash_attention: 'attention',
      few_rows_product: 'FP8 GEMM',
      residual_rmsnorm: 'norm',
      residual_layernorm: 'norm',
      qk_norm_rope: 'norm',
      swiglu: 'elementwise',
      quantize_rows: 'elementwise',
    })
  })
})

it('classes by their share of the kernels’ time', () => {
  const kernels = [
    makeKernel({ name: 'nvjet_qqtst_a', startNs: 0, endNs: 50 }),
    makeKernel({ name: 'nvjet_qqtst_b', startNs: 50, endNs: 70 }),
    makeKernel({ name: 'flash_attention', startNs: 70, endNs: 100 }),
  ]
  expect(classifyTimes(summariseKernels(makeActivity({ kernels })))).toEqual([
    { kernelClass: 'FP8 GEMM', totalNs: 70, instances: 2, share: 0.7 },
    { kernelClass: 'attention', totalNs: 30, instances: 1, share: 0.3 },
  ])
  expect(classifyTimes([])).toEqual([])
})
