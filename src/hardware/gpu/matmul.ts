/** Matrix products by cuBLASLt: D = A · Bᵀ, as a linear layer has them. */
import * as c from '../ffi/cublaslt.ts'
import type { DevicePointer } from '../ffi/cuda.ts'
import { readOut } from '../ffi/library.ts'
import { EmbedError, toReason } from '../../errors.ts'
import { NativeResource } from '../native-resource.ts'
import type { GpuContext } from './context.ts'
import { DeviceBuffer } from './device-buffer.ts'
import type { GpuStream } from './stream.ts'

/** bf16 · bf16; E4M3 · E4M3 with one scale a matrix; E4M3 · E4M3 with one scale a row of A and of B. */
export const matmulPrecisions = ['bf16', 'fp8', 'fp8-rowwise'] as const
export type MatmulPrecision = (typeof matmulPrecisions)[number]

export interface MatmulShape {
  readonly precision: MatmulPrecision
  /** Of A and D: tokens. */
  readonly rows: number
  /** Of D, rows of B: outputs of the layer. */
  readonly columns: number
  /** Of A and B; a multiple of 16 for FP8. */
  readonly inner: number
  /** Adds `bias` to every row. Default false. */
  readonly bias?: boolean
  /** Adds to what D holds. Default false. */
  readonly accumulate?: boolean
}

/** All row-major, aligned to 16 bytes, borrowed. */
export interface MatmulOperands {
  /** bf16 or E4M3 [rows, inner] */
  readonly a: DevicePointer
  /** bf16 or E4M3 [columns, inner] */
  readonly b: DevicePointer
  /** bf16 [rows, columns] */
  readonly d: DevicePointer
  /** f32 [1], or [rows] where row-wise: A's values are E4M3 times scale. */
  readonly aScale?: DevicePointer
  /** f32 [1], or [columns] where row-wise */
  readonly bScale?: DevicePointer
  /** bf16 [columns] */
  readonly bias?: DevicePointer
}

export interface MatmulAlgorithm {
  /** cublasLtMatmulAlgo_t, valid for one version of the library and one kind of GPU. */
  readonly bytes: Uint8Array
  readonly workspaceBytes: number
}

/** Its workspace serves one product at a time: one library a stream. */
export class MatmulLibrary extends NativeResource<c.CublasLtHandle> {
  readonly gpu: GpuContext
  readonly cublaslt: c.Cublaslt
  readonly workspace: DeviceBuffer

  /** @param options.workspaceBytes default 32 MiB: what the cuBLAS guide recommends for Hopper (§cublasSetWorkspace)
   * @throws {EmbedError} GPU_OUT_OF_MEMORY, CUBLAS_STATUS */
  constructor(gpu: GpuContext, cublaslt: c.Cublaslt, options: { readonly workspaceBytes?: number } = {}) {
    gpu.makeCurrent()
    super(
      'cuBLASLt',
      readOut<c.CublasLtHandle>((out) => cublaslt.cublasLtCreate(out)),
      gpu.children,
    )
    this.gpu = gpu
    this.cublaslt = cublaslt
    this.workspace = new DeviceBuffer(gpu, 'matmul workspace', options.workspaceBytes ?? 32 << 20)
    this.children.adopt(this.workspace)
  }

  get version(): number {
    return this.cublaslt.cublasLtGetVersion()
  }

  protected override free(handle: c.CublasLtHandle): void {
    this.gpu.makeCurrent()
    this.cublaslt.cublasLtDestroy(handle)
  }
}

interface MatmulHandles {
  readonly desc: c.MatmulDesc
  readonly a: c.MatrixLayout
  readonly b: c.MatrixLayout
  readonly d: c.MatrixLayout
}

const one = Float32Array.of(1)
const zero = Float32Array.of(0)

/** The products of one shape. */
export class Matmul extends NativeResource<MatmulHandles> {
  readonly shape: MatmulShape
  readonly library: MatmulLibrary
  readonly #pointer = new BigUint64Array(1)

  /** @throws {EmbedError} MATMUL_UNSUPPORTED, CUBLAS_STATUS */
  constructor(library: MatmulLibrary, shape: MatmulShape) {
    const { precision, inner, columns, rows } = shape
    // cuBLASLt wants rows of 16 bytes.
    const multiple = precision === 'bf16' ? 8 : 16
    if (inner % multiple !== 0 || columns % 8 !== 0) {
      const reason = `the inner size must be a multiple of ${multiple}, the columns one of 8`
      throw new EmbedError('MATMUL_UNSUPPORTED', { ...shape, reason })
    }
    const { cublaslt, gpu } = library
    gpu.makeCurrent()
    const type = inputType(precision)
    // cuBLASLt counts by columns: to it a row-major matrix is its own transpose, so it computes Dᵀ = Bᵀᵀ · Aᵀ and
    // its A is our B. With A transposed and both inner sizes contiguous this is the one form FP8 has.
    const layout = (dataType: number, inRow: number, rowCount: number) =>
      readOut<c.MatrixLayout>((out) =>
        cublaslt.cublasLtMatrixLayoutCreate(out, dataType, inRow, rowCount, inRow),
      )
    super(
      'a matmul',
      {
        desc: readOut<c.MatmulDesc>((out) =>
          cublaslt.cublasLtMatmulDescCreate(out, c.CUBLAS_COMPUTE_32F, c.CUDA_R_32F),
        ),
        a: layout(type, inner, columns),
        b: layout(type, inner, rows),
        d: layout(c.CUDA_R_16BF, columns, rows),
      },
      library.children,
    )
    this.library = library
    this.shape = shape
    this.#describe()
  }

  /** What cuBLASLt's algorithms are asked by, after the handle: how it sums and scales, what A, B, C and D hold. */
  get types(): readonly [sum: number, scale: number, a: number, b: number, c: number, d: number] {
    const input = inputType(this.shape.precision)
    return [c.CUBLAS_COMPUTE_32F, c.CUDA_R_32F, input, input, c.CUDA_R_16BF, c.CUDA_R_16BF]
  }

  /** cuBLASLt's candidates, the one it thinks best first; those it cannot run are left out.
   * @throws {EmbedError} MATMUL_UNSUPPORTED when there is none */
  heuristics(operands: MatmulOperands, count = 32): MatmulAlgorithm[] {
    const { cublaslt, gpu, workspace } = this.library
    gpu.makeCurrent()
    this.#setPointers(operands)
    const { desc, a, b, d } = this.handle
    const results = new Uint8Array(count * c.heuristicResultBytes)
    const preference = readOut<c.MatmulPreference>((out) => cublaslt.cublasLtMatmulPreferenceCreate(out))
    let returned: number
    try {
      cublaslt.cublasLtMatmulPreferenceSetAttribute(
        preference,
        c.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
        BigUint64Array.of(BigInt(workspace.bytes)),
        8,
      )
      returned = readOut<number>((out) =>
        cublaslt.cublasLtMatmulAlgoGetHeuristic(
          this.library.handle,
          desc,
          a,
          b,
          d,
          d,
          preference,
          count,
          results,
          out,
        ),
      )
    } catch (cause) {
      if (!isRefusal(cause)) throw cause
      throw new EmbedError('MATMUL_UNSUPPORTED', { ...this.shape, reason: toReason(cause) }, { cause })
    } finally {
      cublaslt.cublasLtMatmulPreferenceDestroy(preference)
    }
    const found = Array.from({ length: returned }, (_, i) => readResult(results, i)).filter(
      ({ state }) => state === 0,
    )
    if (found.length > 0) return found
    throw new EmbedError('MATMUL_UNSUPPORTED', { ...this.shape, reason: 'cuBLASLt has no algorithm for it' })
  }

  /** @returns the algorithm with the workspace it takes; undefined where it cannot run this here, or has too little of it */
  check(bytes: Uint8Array): MatmulAlgorithm | undefined {
    const { cublaslt, gpu, workspace } = this.library
    gpu.makeCurrent()
    const { desc, a, b, d } = this.handle
    const result = new Uint8Array(c.heuristicResultBytes)
    const isTaken = isAccepted(() =>
      cublaslt.cublasLtMatmulAlgoCheck(this.library.handle, desc, a, b, d, d, bytes, result),
    )
    const { workspaceBytes } = readResult(result, 0)
    return isTaken && workspaceBytes <= workspace.bytes ? { bytes, workspaceBytes } : undefined
  }

  /** Enqueues the product and returns at once. @throws {EmbedError} CUBLAS_STATUS */
  launch(stream: GpuStream, operands: MatmulOperands, algorithm: MatmulAlgorithm): void {
    const { cublaslt, gpu, workspace } = this.library
    gpu.makeCurrent()
    this.#setPointers(operands)
    const { desc, a, b, d } = this.handle
    cublaslt.cublasLtMatmul(
      this.library.handle,
      desc,
      one,
      operands.b,
      a,
      operands.a,
      b,
      this.shape.accumulate === true ? one : zero,
      operands.d,
      d,
      operands.d,
      d,
      algorithm.bytes,
      workspace.handle,
      workspace.bytes,
      stream.handle,
    )
  }

  protected override free({ desc, a, b, d }: MatmulHandles): void {
    const { cublaslt } = this.library
    for (const layout of [a, b, d]) cublaslt.cublasLtMatrixLayoutDestroy(layout)
    cublaslt.cublasLtMatmulDescDestroy(desc)
  }

  /** What all products of the shape have in common. */
  #describe(): void {
    const { precision, bias } = this.shape
    const i32 = (attribute: number, value: number) => this.#set(attribute, Int32Array.of(value))
    i32(c.CUBLASLT_MATMUL_DESC_TRANSA, c.CUBLAS_OP_T)
    // Sums in the tensor core's own width; the exact one halves the speed on Hopper.
    if (precision !== 'bf16') this.#set(c.CUBLASLT_MATMUL_DESC_FAST_ACCUM, Int8Array.of(1))
    if (precision === 'fp8-rowwise') {
      for (const attribute of [c.CUBLASLT_MATMUL_DESC_A_SCALE_MODE, c.CUBLASLT_MATMUL_DESC_B_SCALE_MODE])
        i32(attribute, c.CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F)
    }
    if (bias === true) {
      i32(c.CUBLASLT_MATMUL_DESC_EPILOGUE, c.CUBLASLT_EPILOGUE_BIAS)
      i32(c.CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, c.CUDA_R_16BF)
    }
  }

  #setPointers({ aScale, bScale, bias }: MatmulOperands): void {
    const needsScale = this.shape.precision !== 'bf16'
    // Crosswise, as A and B are.
    this.#setPointer(c.CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, bScale, needsScale)
    this.#setPointer(c.CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, aScale, needsScale)
    this.#setPointer(c.CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias, this.shape.bias === true)
  }

  #setPointer(attribute: number, pointer: DevicePointer | undefined, isNeeded: boolean): void {
    if ((pointer !== undefined) !== isNeeded) {
      const reason = `a ${this.shape.precision} matmul ${isNeeded ? 'without' : 'with'} a pointer for attribute ${attribute}`
      throw new EmbedError('INTERNAL', { reason })
    }
    if (pointer === undefined) return
    this.#pointer[0] = pointer
    this.#set(attribute, this.#pointer)
  }

  #set(attribute: number, value: ArrayBufferView): void {
    this.library.cublaslt.cublasLtMatmulDescSetAttribute(this.handle.desc, attribute, value, value.byteLength)
  }
}

function readResult(results: Uint8Array, index: number): MatmulAlgorithm & { state: number } {
  const at = index * c.heuristicResultBytes
  const view = new DataView(results.buffer, results.byteOffset + at, c.heuristicResultBytes)
  return {
    bytes: results.slice(at, at + c.algorithmBytes),
    workspaceBytes: Number(view.getBigUint64(c.heuristicWorkspaceOffset, true)),
    state: view.getInt32(c.heuristicStateOffset, true),
  }
}

function inputType(precision: MatmulPrecision): number {
  return precision === 'bf16' ? c.CUDA_R_16BF : c.CUDA_R_8F_E4M3
}

/** @returns false when this chip or this version of the library cannot do what is called */
export function isAccepted(call: () => void): boolean {
  try {
    call()
    return true
  } catch (error) {
    if (isRefusal(error)) return false
    throw error
  }
}

/** Not a failure of the GPU or of the program. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof EmbedError) || error.code !== 'CUBLAS_STATUS') return false
  const { status } = (error as EmbedError<'CUBLAS_STATUS'>).details
  return [
    c.CUBLAS_STATUS_INVALID_VALUE,
    c.CUBLAS_STATUS_ARCH_MISMATCH,
    c.CUBLAS_STATUS_NOT_SUPPORTED,
  ].includes(status)
}
