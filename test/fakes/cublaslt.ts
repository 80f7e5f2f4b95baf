/** cuBLASLt over the fake driver: products take the time of their algorithm, and nothing is computed. */
import { EmbedError } from '../../src/errors.ts'
import * as c from '../../src/hardware/ffi/cublaslt.ts'
import type { FakeCudaDriver } from './cuda-driver.ts'

export interface FakeAlgorithm {
  readonly durationMs: number
  readonly workspaceBytes?: number
  /** What the heuristics say of it. Default 0: it runs. */
  readonly state?: number
  /** What cublasLtMatmul answers. */
  readonly status?: number
}

interface Layout {
  readonly type: number
  readonly rows: number
  readonly columns: number
  readonly leading: number
}

export interface FakeProduct {
  readonly algorithm: number
  readonly attributes: ReadonlyMap<number, bigint>
  readonly layouts: readonly Layout[]
  readonly pointers: readonly bigint[]
  readonly beta: number
  readonly stream: bigint
}

export class FakeCublaslt {
  readonly api: c.Cublaslt
  /** What the heuristics name, in this order. */
  algorithms: readonly FakeAlgorithm[] = [{ durationMs: 1 }]
  version = 130_100
  readonly products: FakeProduct[] = []
  heuristicCalls = 0
  /** What cublasLtMatmulAlgoGetHeuristic and cublasLtMatmulAlgoCheck answer. */
  status = 0
  readonly #driver: FakeCudaDriver
  readonly #live = new Map<bigint, string>()
  readonly #attributes = new Map<bigint, Map<number, bigint>>()
  readonly #layouts = new Map<bigint, Layout>()
  #nextHandle = 0x9000n

  constructor(driver: FakeCudaDriver) {
    this.#driver = driver
    this.api = this.#makeApi()
  }

  /** What is made and not freed. */
  get live(): string[] {
    return [...this.#live.values()]
  }

  #make(kind: string): bigint {
    this.#nextHandle += 0x10n
    this.#live.set(this.#nextHandle, kind)
    return this.#nextHandle
  }

  #free(api: string, handle: bigint): void {
    if (!this.#live.delete(handle)) this.#driver.violations.push(`${api}: 0x${handle.toString(16)}`)
  }

  #check(api: string, status: number): void {
    if (status !== 0)
      throw new EmbedError('CUBLAS_STATUS', {
        api,
        status,
        name: `STATUS_${status}`,
        reason: 'as the test has it',
      })
  }

  #makeApi(): c.Cublaslt {
    const set = (handle: bigint, attribute: number, value: ArrayBufferView, bytes: number) => {
      if (value.byteLength !== bytes) this.#check('SetAttribute', c.CUBLAS_STATUS_INVALID_VALUE)
      const wide = Buffer.alloc(8)
      Buffer.from(value.buffer, value.byteOffset, bytes).copy(wide)
      this.#attributes.get(handle)!.set(attribute, wide.readBigUInt64LE())
    }
    const writeResult = (results: Uint8Array, index: number, algorithm: number) => {
      const { workspaceBytes = 0, state = 0 } = this.algorithms[algorithm]!
      const view = new DataView(results.buffer, results.byteOffset + index * c.heuristicResultBytes)
      view.setUint8(0, algorithm + 1)
      view.setBigUint64(c.heuristicWorkspaceOffset, BigInt(workspaceBytes), true)
      view.setInt32(c.heuristicStateOffset, state, true)
    }
    const described = (kind: string) => (out: [unknown]) => {
      const handle = this.#make(kind)
      this.#attributes.set(handle, new Map())
      out[0] = handle
    }
    return {
      cublasLtGetVersion: Object.assign(() => this.version, { async: () => Promise.resolve(this.version) }),
      cublasLtCreate: (out) => (out[0] = this.#make('handle') as c.CublasLtHandle),
      cublasLtDestroy: (handle) => this.#free('cublasLtDestroy', handle),
      cublasLtMatmulDescCreate: described('desc'),
      cublasLtMatmulDescDestroy: (desc) => this.#free('cublasLtMatmulDescDestroy', desc),
      cublasLtMatmulDescSetAttribute: set,
      cublasLtMatrixLayoutCreate: (out, type, rows, columns, leading) => {
        const handle = this.#make('layout')
        this.#layouts.set(handle, { type, rows, columns, leading })
        out[0] = handle as c.MatrixLayout
      },
      cublasLtMatrixLayoutDestroy: (layout) => this.#free('cublasLtMatrixLayoutDestroy', layout),
      cublasLtMatmulPreferenceCreate: described('preference'),
      cublasLtMatmulPreferenceDestroy: (preference) =>
        this.#free('cublasLtMatmulPreferenceDestroy', preference),
      cublasLtMatmulPreferenceSetAttribute: set,
      cublasLtMatmulAlgoGetHeuristic: (...args) => {
        const [preference, requested, results, returned] = [args[6], args[7], args[8], args[9]]
        this.heuristicCalls++
        this.#check('cublasLtMatmulAlgoGetHeuristic', this.status)
        const limit = this.#attributes.get(preference)!.get(c.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)!
        const fitting = [...this.algorithms.keys()]
          .filter((index) => BigInt(this.algorithms[index]!.workspaceBytes ?? 0) <= limit)
          .slice(0, requested)
        for (const [index, algorithm] of fitting.entries()) writeResult(results, index, algorithm)
        returned[0] = fitting.length
      },
      cublasLtMatmulAlgoCheck: (...args) => {
        this.#check('cublasLtMatmulAlgoCheck', this.status)
        writeResult(args[7], 0, args[6][0]! - 1)
      },
      cublasLtMatmul: (
        handle,
        desc,
        alpha,
        a,
        aLayout,
        b,
        bLayout,
        beta,
        c_,
        cLayout,
        d,
        dLayout,
        ...rest
      ) => {
        const [bytes, workspace, workspaceBytes, stream] = rest
        const algorithm = bytes[0]! - 1
        const { durationMs, status = 0 } = this.algorithms[algorithm]!
        this.#check('cublasLtMatmul', status)
        // All that is given must be alive.
        for (const [pointer, size] of [
          [a, 1],
          [b, 1],
          [c_, 1],
          [d, 1],
          [workspace, workspaceBytes],
        ] as const)
          this.#driver.deviceBytes(pointer, size)
        for (const each of [handle, desc, aLayout, bLayout, cLayout, dLayout]) {
          if (!this.#live.has(each)) this.#driver.violations.push(`cublasLtMatmul: 0x${each.toString(16)}`)
        }
        this.products.push({
          algorithm,
          attributes: new Map(this.#attributes.get(desc)),
          layouts: [aLayout, bLayout, cLayout, dLayout].map((layout) => this.#layouts.get(layout)!),
          pointers: [a, b, c_, d],
          beta: beta[0]! * alpha[0]!,
          stream,
        })
        this.#driver.timeline.streams
          .get(stream)!
          .enqueue({ what: 'matmul', engine: 'compute', durationMs, finish: () => {} })
      },
    }
  }
}
