import type { MatmulPrecision } from '../../hardware/gpu/matmul.ts'

/** What the native engine multiplies at. */
export const cudaPrecisions = ['bf16', 'fp8', 'fp8-rowwise'] as const satisfies readonly MatmulPrecision[]
export type CudaPrecision = (typeof cudaPrecisions)[number]
