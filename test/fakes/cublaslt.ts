/** cuBLASLt over the fake driver: products take the time of their algorithm, and nothing is computed. */
import { EmbedError } from '../../src/errors.ts'
import * as c from '../../src/hardware/ffi/cublaslt.ts'
import type { FakeCudaDriver } from './cuda-driver.ts'

export interface FakeAlgorithm {
  readonly durationMs: number
  /** How long it takes for so many rows. Default: durationMs. */
  readonly durationFor?: (rows: number) => number
  readonly workspaceBytes?: number
  /** What the heuristics say of it. Default 0: it runs. */
  readonly state?: number
  /** What cublasLtMatmul answers. */
  readonly status?: number
  /** Memsets that it needs before it. */
  readonly memsets?: number
  /** How long it takes in a graph. Default: durationMs. */
  readonly recordedMs?: number
  /** The heuristics know nothing of it. */
  readonly isUnnamed?: boolean
  /** The bf16 that all of D becomes. Default: one. */
  readonly product?: number
  /** What it is in a configuration; undefined: cublasLtMatmulAlgoCheck refuses that. Default: the same in all. */
  readonly configured?: (config: FakeConfig) => Partial<FakeAlgorithm> | undefined
}

export interface FakeConfig {
  readonly tile: number
  readonly stages: number
  readonly splitK: number
  readonly reduction: number
  readonly swizzle: number
  readonly custom: number
  readonly cluster: number
}

/** What cublasLtMatmulAlgoCapGetAttribute tells of every algorithm. */
export interface FakeCapabilities {
  readonly splitK?: number
  readonly reductionMask?: number
  readonly swizzles?: number
  readonly customMax?: number
  readonly tiles?: readonly number[]
  readonly stages?: readonly number[]
  /** Versions before 11.8 have none. */
  readonly hasClusters?: boolean
}

interface Layout {
  readonly type: number
  readonly rows: number
  readonly columns: number
  readonly leading: number
}

export interface FakeProduct {
  readonly algorithm: number
  readonly config: FakeConfig
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
  capabilities: FakeCapabilities = {}
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

  /** The algorithm as it is configured. */
  #configured(bytes: Uint8Array): FakeAlgorithm | undefined {
    const algorithm = this.algorithms[bytes[0]! - 1]!
    if (algorithm.configured === undefined) return algorithm
    const changed = algorithm.configured(readConfig(bytes))
    return changed && { ...algorithm, ...changed }
  }

  #checkConfig(attribute: number, bytes: number): void {
    const isCluster = attribute === c.CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID
    const isKnown = !isCluster || this.capabilities.hasClusters === true
    if (!isKnown || bytes !== (isCluster ? 2 : 4))
      this.#check('ConfigAttribute', c.CUBLAS_STATUS_INVALID_VALUE)
  }

  #makeApi(): c.Cublaslt {
    const set = (handle: bigint, attribute: number, value: ArrayBufferView, bytes: number) => {
      if (value.byteLength !== bytes) this.#check('SetAttribute', c.CUBLAS_STATUS_INVALID_VALUE)
      const wide = Buffer.alloc(8)
      Buffer.from(value.buffer, value.byteOffset, bytes).copy(wide)
      this.#attributes.get(handle)!.set(attribute, wide.readBigUInt64LE())
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
        const fitting = [...this.algorithms.entries()]
          .filter(([, { isUnnamed }]) => isUnnamed !== true)
          .filter(([, { workspaceBytes }]) => BigInt(workspaceBytes ?? 0) <= limit)
          .slice(0, requested)
        for (const [index, [id, algorithm]] of fitting.entries()) {
          results.set(initAlgorithm(id), index * c.heuristicResultBytes)
          writeResult(results, index, algorithm)
        }
        returned[0] = fitting.length
      },
      cublasLtMatmulAlgoCheck: (...args) => {
        this.#check('cublasLtMatmulAlgoCheck', this.status)
        const algorithm = this.#configured(args[6])
        if (algorithm === undefined || (algorithm.state ?? 0) !== 0)
          this.#check('cublasLtMatmulAlgoCheck', c.CUBLAS_STATUS_NOT_SUPPORTED)
        else writeResult(args[7], 0, algorithm)
      },
      cublasLtMatmulAlgoGetIds: (...args) => {
        const [requested, ids, returned] = [args[7], args[8], args[9]]
        const known = [...this.algorithms.keys()].slice(0, requested)
        ids.set(known)
        returned[0] = known.length
      },
      cublasLtMatmulAlgoInit: (...args) => args[8].set(initAlgorithm(args[7])),
      cublasLtMatmulAlgoCapGetAttribute: (_algorithm, attribute, value, bytes, written) => {
        const { splitK, reductionMask, swizzles, customMax, tiles = [], stages = [] } = this.capabilities
        const capabilities = new Map<number, readonly number[]>([
          [c.CUBLASLT_ALGO_CAP_SPLITK_SUPPORT, [splitK ?? 0]],
          [c.CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK, [reductionMask ?? 0]],
          [c.CUBLASLT_ALGO_CAP_CTA_SWIZZLING_SUPPORT, [swizzles ?? 0]],
          [c.CUBLASLT_ALGO_CAP_CUSTOM_OPTION_MAX, [customMax ?? 0]],
          [c.CUBLASLT_ALGO_CAP_TILE_IDS, tiles],
          [c.CUBLASLT_ALGO_CAP_STAGES_IDS, stages],
        ])
        const values = Int32Array.from(capabilities.get(attribute) ?? [])
        written[0] = values.byteLength
        if (bytes === 0) return
        if (bytes !== values.byteLength) this.#check('CapGetAttribute', c.CUBLAS_STATUS_INVALID_VALUE)
        value.set(new Uint8Array(values.buffer))
      },
      cublasLtMatmulAlgoConfigSetAttribute: (algorithm, attribute, value, bytes) => {
        this.#checkConfig(attribute, bytes)
        const wide = Buffer.alloc(4)
        Buffer.from(value.buffer, value.byteOffset, bytes).copy(wide)
        algorithm.set(wide, configOffset(attribute))
      },
      cublasLtMatmulAlgoConfigGetAttribute: (algorithm, attribute, value, bytes, written) => {
        this.#checkConfig(attribute, bytes)
        value.set(algorithm.subarray(configOffset(attribute), configOffset(attribute) + bytes))
        written[0] = bytes
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
        const configured = this.#configured(bytes)
        if (configured === undefined) throw new Error('a product by an algorithm that the check refuses')
        const { rows, columns } = this.#layouts.get(dLayout)!
        // To cuBLASLt a row is a column.
        const durationMs = configured.durationFor?.(columns) ?? configured.durationMs
        const { recordedMs = durationMs, memsets = 0, status = 0, product = 0x3f80 } = configured
        this.#check('cublasLtMatmul', status)
        // All that is given must be alive.
        for (const [pointer, size] of [
          [a, 1],
          [b, 1],
          [c_, 1],
          [d, rows * columns * 2],
          [workspace, workspaceBytes],
        ] as const)
          this.#driver.deviceBytes(pointer, size)
        for (const each of [handle, desc, aLayout, bLayout, cLayout, dLayout]) {
          if (!this.#live.has(each)) this.#driver.violations.push(`cublasLtMatmul: 0x${each.toString(16)}`)
        }
        this.products.push({
          algorithm: bytes[0]! - 1,
          config: readConfig(bytes),
          attributes: new Map(this.#attributes.get(desc)),
          layouts: [aLayout, bLayout, cLayout, dLayout].map((layout) => this.#layouts.get(layout)!),
          pointers: [a, b, c_, d],
          beta: beta[0]! * alpha[0]!,
          stream,
        })
        const finish = () => {
          const values = this.#driver.deviceBytes(d, rows * columns * 2)
          for (let at = 0; at < values.length; at += 2) {
            values[at] = product & 0xff
            values[at + 1] = product >> 8
          }
        }
        const target = this.#driver.timeline.streams.get(stream)!
        for (let i = 0; i < memsets; i++)
          target.enqueue({ what: 'memset', engine: 'compute', durationMs: 0, finish: () => {} })
        const takesMs = target.capture === undefined ? durationMs : recordedMs
        target.enqueue({ what: 'matmul', engine: 'compute', durationMs: takesMs, finish })
      },
    }
  }
}

/** cublasLtMatmulAlgo_t: who it is in the first byte, then its configuration. */
function initAlgorithm(id: number): Uint8Array {
  const bytes = Buffer.alloc(c.algorithmBytes)
  bytes[0] = id + 1
  bytes.writeInt32LE(id, configOffset(c.CUBLASLT_ALGO_CONFIG_ID))
  bytes.writeInt32LE(1, configOffset(c.CUBLASLT_ALGO_CONFIG_SPLITK_NUM))
  return bytes
}

function configOffset(attribute: number): number {
  return 4 + 4 * attribute
}

function readConfig(bytes: Uint8Array): FakeConfig {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const read = (attribute: number) => view.getInt32(configOffset(attribute), true)
  return {
    tile: read(c.CUBLASLT_ALGO_CONFIG_TILE_ID),
    stages: read(c.CUBLASLT_ALGO_CONFIG_STAGES_ID),
    splitK: read(c.CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
    reduction: read(c.CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME),
    swizzle: read(c.CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING),
    custom: read(c.CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION),
    cluster: read(c.CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID),
  }
}

function writeResult(
  results: Uint8Array,
  index: number,
  { workspaceBytes = 0, state = 0 }: FakeAlgorithm,
): void {
  const view = new DataView(results.buffer, results.byteOffset + index * c.heuristicResultBytes)
  view.setBigUint64(c.heuristicWorkspaceOffset, BigInt(workspaceBytes), true)
  view.setInt32(c.heuristicStateOffset, state, true)
}
