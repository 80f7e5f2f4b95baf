/** What the kernels with a block a row have in common (rows.cuh): the block's shape, and the form of their output. */
import { EmbedError } from '../../../errors.ts'
import type { DevicePointer } from '../../../hardware/ffi/cuda.ts'
import type { MatmulPrecision } from '../../../hardware/gpu/matmul.ts'
import type { KernelFile, KernelVariant } from './kernel-loader.ts'

/** As rows.cuh has them. */
const outputCodes: Readonly<Record<MatmulPrecision, number>> = { bf16: 0, fp8: 1, 'fp8-rowwise': 2 }

export interface RowShape {
  /** Values of a row, a multiple of 8. */
  readonly rowSize: number
  /** The form of the output: what the matrix product after it takes. */
  readonly output: MatmulPrecision
}

/** Where a kernel's output goes. */
export interface RowOutput {
  /** bf16 or E4M3 [rows, rowSize] */
  readonly output: DevicePointer
  /** f32: fp8 reads [1], fp8-rowwise writes [rows]; bf16 has none */
  readonly scale?: DevicePointer
}

export const noPointer = 0n as DevicePointer

/** Threads of a block, each with pieces of 8 values: as few pieces as 512 threads allow, spread evenly. */
export function threadsOfRow(rowSize: number): number {
  if (rowSize % 8 !== 0 || rowSize <= 0) {
    throw new EmbedError('INTERNAL', { reason: `a row of ${rowSize} values is no multiple of 8` })
  }
  const pieces = rowSize / 8
  const piecesOfThread = Math.ceil(pieces / 512)
  return Math.ceil(pieces / piecesOfThread / 32) * 32
}

export function rowVariant(
  file: KernelFile,
  { rowSize, output }: RowShape,
  defines: KernelVariant['defines'] = {},
): KernelVariant {
  return {
    file,
    defines: {
      ROW_SIZE: rowSize,
      THREADS: threadsOfRow(rowSize),
      OUTPUT: outputCodes[output],
      ...defines,
    },
    // E4M3 conversion came with Ada and Hopper.
    minArchitecture: output === 'bf16' ? 80 : 89,
  }
}
